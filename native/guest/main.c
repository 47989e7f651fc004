/* Chooses the role by the name it was called by, CRIU's environment, or the first argument. */
#include "guest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
    const char *name = slash ? slash + 1 : argc > 0 ? argv[0] : "";

    if (strcmp(name, "mwarp-action") == 0 || (argc == 1 && getenv("CRTOOLS_SCRIPT_ACTION")))
        return action_main();
    if (strcmp(name, "criu") == 0) return criu_main(argc, argv);
    if (strcmp(name, "tar") == 0) return tar_main(argc, argv);
    if (argc > 1 && strcmp(argv[1], "criu-version") == 0) return criu_version_main(argc - 2, argv + 2);
    if (argc > 1 && strcmp(argv[1], "shim") == 0) return shim_main(argc - 2, argv + 2);
    if (argc > 1 && strcmp(argv[1], "job") == 0) return job_main(argc - 2, argv + 2);
    if (argc > 1 && strcmp(argv[1], "lazy") == 0) return lazy_main(argc - 2, argv + 2);
    if (argc > 1 && strcmp(argv[1], "pages") == 0) return pages_main();
    if (argc > 1 && strcmp(argv[1], "hold") == 0) return hold_main();
    if (argc > 1 && strcmp(argv[1], "relay") == 0) return relay_main(argc - 2, argv + 2);
    if (argc > 1 && strcmp(argv[1], "layer") == 0) return layer_main(argc - 2, argv + 2);
    if (argc > 1 && strcmp(argv[1], "digests") == 0) return digests_main(argc - 2, argv + 2);
    if (argc > 1 && strcmp(argv[1], "patch") == 0) return patch_main(argc - 2, argv + 2);
    if (argc > 1 && strcmp(argv[1], "layer-look") == 0) return layer_look_main(argc - 2, argv + 2);
    if (argc > 1 && strcmp(argv[1], "symbols") == 0) return symbols_main(argc - 2, argv + 2);
    if (argc > 1 && strcmp(argv[1], "btf") == 0) return btf_main(argc - 2, argv + 2);
    if (argc > 1 && strcmp(argv[1], "tcp-trial") == 0) return tcp_trial_main(argc - 2, argv + 2);
    if (argc > 1 && strcmp(argv[1], "fault-costs") == 0) return fault_costs_main();
    if (argc > 1 && strcmp(argv[1], "tcp-receive") == 0) return tcp_receive_main(argc - 2, argv + 2);
    if (argc > 1 && strcmp(argv[1], "tcp-send") == 0) return tcp_send_main(argc - 2, argv + 2);
    if (argc > 1 && strcmp(argv[1], "action") == 0) return action_main();
    fprintf(stderr, "usage: mwarp-guest shim [--terminal] CONTAINER JOB -- RUNC... | job JOB -- COMMAND... | "
                    "lazy JOB CGROUP -- CRIU... | pages | hold | relay PORT | symbols NAME... | btf FILE REQUEST... | tcp-trial KFUNC | fault-costs | "
                    "layer DIRECTORY CGROUP ROOT TREE... | layer-look DIRECTORY TREE... | "
                    "digests DIRECTORY | patch DIRECTORY | "
                    "tcp-receive PORT | tcp-send ADDRESS PORT BYTES | criu-version CRIU FILE | action\n");
    return 2;
}
