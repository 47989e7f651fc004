/* SPDX-License-Identifier: Apache-2.0 */
/* A process whose first thread ends at once while another lives on until standard input ends. */
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

static void *live(void *unused)
{
    char byte;

    (void)unused;
    while (read(0, &byte, 1) > 0) continue;
    _exit(0);
}

int main(void)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, live, NULL) != 0) return 1;
    pthread_exit(NULL);
}
