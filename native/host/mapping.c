/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "mapping.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const napi_type_tag tag = {0x6d77617270206d61, 0x7070696e67206f66};

static void unmap(struct mw_mapping *mapping)
{
    if (mapping->at != NULL) munmap(mapping->at, mapping->bytes);
    mapping->at = NULL;
}

/* A job holds its Externals by nothing but `users`: the last one to let go frees. */
static void forget(napi_env env, void *data, void *hint)
{
    struct mw_mapping *mapping = data;

    (void)env, (void)hint;
    mapping->closing = true;
    if (mapping->users > 0) return;
    unmap(mapping);
    free(mapping);
}

static int map_file(struct mw_mapping *mapping, const char *path)
{
    struct stat st;
    int fd = open(path, (mapping->writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);

    if (fd < 0) return -errno;
    int rc = fstat(fd, &st) < 0 ? -errno : 0;
    if (rc == 0 && (!S_ISREG(st.st_mode) || st.st_size <= 0)) rc = -ENOTSUP;
    if (rc == 0) {
        int protection = PROT_READ | (mapping->writable ? PROT_WRITE : 0);

        /*
         * SAFETY: at an address of the kernel's choice, shared, never read or written but by the ways of
         * copy.h, which take the end of the file for an error.
         */
        void *at = mmap(NULL, (size_t)st.st_size, protection, MAP_SHARED, fd, 0);
        if (at == MAP_FAILED) rc = -errno;
        else mapping->at = at, mapping->bytes = (uint64_t)st.st_size;
    }
    close(fd);
    return rc;
}

napi_value mw_map_file(napi_env env, napi_callback_info info)
{
    size_t argc = 2, length;
    napi_value argv[2], result = NULL;
    char path[512];
    bool writable;

    if (napi_get_cb_info(env, info, &argc, argv, NULL, NULL) != napi_ok || argc != 2 ||
        napi_get_value_string_utf8(env, argv[0], path, sizeof(path), &length) != napi_ok ||
        length == sizeof(path) - 1 || napi_get_value_bool(env, argv[1], &writable) != napi_ok) {
        napi_throw_type_error(env, "ERR_INVALID_ARG_VALUE", "mapFile takes a path and a boolean");
        return NULL;
    }
    struct mw_mapping *mapping = calloc(1, sizeof(*mapping));
    if (mapping == NULL) return NULL;
    mapping->writable = writable;
    int rc = map_file(mapping, path);
    if (rc < 0) {
        const char *name = strerrorname_np(-rc);

        free(mapping);
        napi_create_string_utf8(env, name != NULL ? name : "EUNKNOWN", NAPI_AUTO_LENGTH, &result);
    } else if (napi_create_external(env, mapping, forget, NULL, &result) != napi_ok) {
        forget(env, mapping, NULL);
        return NULL;
    } else if (napi_type_tag_object(env, result, &tag) != napi_ok) {
        return NULL;
    }
    return result;
}

static struct mw_mapping *mapping_of(napi_env env, napi_value value)
{
    void *data = NULL;
    bool is_ours = false;

    if (napi_check_object_type_tag(env, value, &tag, &is_ours) != napi_ok || !is_ours) return NULL;
    return napi_get_value_external(env, value, &data) == napi_ok ? data : NULL;
}

napi_value mw_unmap_file(napi_env env, napi_callback_info info)
{
    size_t argc = 1;
    napi_value argv[1];
    struct mw_mapping *mapping = NULL;

    if (napi_get_cb_info(env, info, &argc, argv, NULL, NULL) == napi_ok && argc == 1)
        mapping = mapping_of(env, argv[0]);
    if (mapping == NULL)
        napi_throw_type_error(env, "ERR_INVALID_ARG_VALUE", "unmapFile takes what mapFile gave");
    else if (mapping->users > 0)
        napi_throw_error(env, "EBUSY", "the mapping is being copied from or to");
    else
        unmap(mapping);
    return NULL;
}

struct mw_mapping *mw_mapping_hold(napi_env env, napi_value value)
{
    struct mw_mapping *mapping = mapping_of(env, value);

    if (mapping == NULL || mapping->at == NULL) return NULL;
    mapping->users++;
    return mapping;
}

void mw_mapping_release(struct mw_mapping *mapping)
{
    mapping->users--;
    if (mapping->closing) forget(NULL, mapping, NULL);
}

bool mw_mapping_resolve(const struct mw_mapping *mapping, double offset, uint64_t bytes, uint64_t *address)
{
    if (!(offset >= 0 && offset < (double)mapping->bytes)) return false;
    uint64_t at = (uint64_t)offset;
    if ((double)at != offset || at % MW_PAGE_BYTES != 0 || bytes > mapping->bytes - at) return false;
    *address = (uint64_t)(uintptr_t)mapping->at + at;
    return true;
}
