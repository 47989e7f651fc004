/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The N-API face of native/host. Types are those of src/warp/native.ts.
 *
 *   copy(sourcePid, destinationPid, sourceAddresses: Float64Array, destinationAddresses: Float64Array,
 *        pages: Uint32Array): Promise<number>      bytes copied; rejects with { code, side, index }
 *   mapFile(path, writable): External | string     a mapping, or the name of the error
 *   unmapFile(External): undefined
 *   copyMapped(sources: External[], sourceFile: Uint32Array, sourceOffset: Float64Array, destinations: External[],
 *              destinationFile: Uint32Array, destinationAt: Float64Array, destinationPid, pages: Uint32Array)
 *              as `copy`; without destinations, destinationAt holds addresses of destinationPid, else offsets
 *   punch(path, offset, bytes): string | null      name of the error; frees a range of a memory file
 */
#define _GNU_SOURCE
#define NAPI_VERSION 8
#include <node_api.h>

#include "mapping.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* User addresses end here even with five-level paging. */
#define ADDRESS_END (UINT64_C(1) << 56)

struct job {
    napi_async_work work;
    napi_deferred deferred;
    struct mw_copy copy;
    struct mw_extent *extents;
    /* Held for as long as the work runs. */
    struct mw_mapping *mappings[2 * MW_MAX_MAPPINGS];
    size_t mapping_count;
    int rc;
};

static void job_free(struct job *job)
{
    if (job == NULL) return;
    for (size_t i = 0; i < job->mapping_count; i++) mw_mapping_release(job->mappings[i]);
    free(job->extents);
    free(job);
}

/* Node-API calls fail only on misuse; then an exception is pending or the process is going down. */
static napi_value throw_type(napi_env env, const char *message)
{
    napi_throw_type_error(env, "ERR_INVALID_ARG_VALUE", message);
    return NULL;
}

static const char *error_name(int rc)
{
    const char *name = strerrorname_np(-rc);

    return name != NULL ? name : "EUNKNOWN";
}

static void run_job(napi_env env, void *data)
{
    struct job *job = data;

    (void)env;
    job->rc = mw_copy_extents(&job->copy);
}

static napi_value copy_error(napi_env env, const struct job *job)
{
    const char *side = job->copy.failed_side == MW_SIDE_SOURCE ? "source" : "destination";
    napi_value code, message, error, value;

    if (napi_create_string_utf8(env, error_name(job->rc), NAPI_AUTO_LENGTH, &code) != napi_ok ||
        napi_create_string_utf8(env, strerror(-job->rc), NAPI_AUTO_LENGTH, &message) != napi_ok ||
        napi_create_error(env, code, message, &error) != napi_ok)
        return NULL;
    if (napi_create_string_utf8(env, side, NAPI_AUTO_LENGTH, &value) == napi_ok)
        napi_set_named_property(env, error, "side", value);
    if (napi_create_int64(env, (int64_t)job->copy.failed_index, &value) == napi_ok)
        napi_set_named_property(env, error, "index", value);
    return error;
}

static void finish_job(napi_env env, napi_status status, void *data)
{
    struct job *job = data;
    napi_value result = NULL;

    if (status != napi_ok) job->rc = -ECANCELED;
    if (job->rc == 0) {
        if (napi_create_int64(env, (int64_t)job->copy.copied, &result) == napi_ok)
            napi_resolve_deferred(env, job->deferred, result);
    } else {
        result = copy_error(env, job);
        if (result != NULL) napi_reject_deferred(env, job->deferred, result);
    }
    napi_delete_async_work(env, job->work);
    job_free(job);
}

static bool get_pid(napi_env env, napi_value value, pid_t *pid)
{
    double number;

    if (napi_get_value_double(env, value, &number) != napi_ok) return false;
    if (!(number >= 1 && number <= 4194304) || number != floor(number)) return false;
    *pid = (pid_t)number;
    return true;
}

static bool get_array(napi_env env, napi_value value, napi_typedarray_type want, void **data, size_t *length)
{
    napi_typedarray_type type;
    bool is_array = false;

    if (napi_is_typedarray(env, value, &is_array) != napi_ok || !is_array) return false;
    if (napi_get_typedarray_info(env, value, &type, length, data, NULL, NULL) != napi_ok) return false;
    return type == want;
}

static bool get_address(double number, uint64_t bytes, uint64_t *address)
{
    if (!(number >= MW_PAGE_BYTES && number < (double)ADDRESS_END)) return false;
    *address = (uint64_t)number;
    return (double)*address == number && *address % MW_PAGE_BYTES == 0 && bytes <= ADDRESS_END - *address;
}

/* Own copies of the arrays: JavaScript may change or detach its own while the work runs. */
static bool take_extents(struct job *job, const double *source, const double *destination,
                         const uint32_t *pages, size_t count)
{
    job->extents = calloc(count > 0 ? count : 1, sizeof(*job->extents));
    if (job->extents == NULL) return false;
    for (size_t i = 0; i < count; i++) {
        struct mw_extent *extent = &job->extents[i];

        extent->bytes = (uint64_t)pages[i] * MW_PAGE_BYTES;
        if (extent->bytes == 0 || !get_address(source[i], extent->bytes, &extent->source) ||
            !get_address(destination[i], extent->bytes, &extent->destination))
            return false;
    }
    job->copy.extents = job->extents;
    job->copy.count = count;
    return true;
}

static bool queue_job(napi_env env, struct job *job, napi_value *promise)
{
    napi_value name;

    return napi_create_string_utf8(env, "mwarp:copy", NAPI_AUTO_LENGTH, &name) == napi_ok &&
           napi_create_async_work(env, NULL, name, run_job, finish_job, job, &job->work) == napi_ok &&
           napi_create_promise(env, &job->deferred, promise) == napi_ok &&
           napi_queue_async_work(env, job->work) == napi_ok;
}

static napi_value copy(napi_env env, napi_callback_info info)
{
    size_t argc = 5, sources, destinations, lengths;
    void *source, *destination, *pages;
    napi_value argv[5], promise;

    if (napi_get_cb_info(env, info, &argc, argv, NULL, NULL) != napi_ok || argc != 5)
        return throw_type(env, "copy takes two pids and three typed arrays");
    if (!get_array(env, argv[2], napi_float64_array, &source, &sources) ||
        !get_array(env, argv[3], napi_float64_array, &destination, &destinations) ||
        !get_array(env, argv[4], napi_uint32_array, &pages, &lengths) || sources != destinations ||
        sources != lengths)
        return throw_type(env, "extents are two Float64Array and one Uint32Array of the same length");
    struct job *job = calloc(1, sizeof(*job));
    if (job == NULL) return throw_type(env, "out of memory");
    if (!get_pid(env, argv[0], &job->copy.source_pid) || !get_pid(env, argv[1], &job->copy.destination_pid)) {
        job_free(job);
        return throw_type(env, "a pid is an integer from 1 to 4194304");
    }
    if (!take_extents(job, source, destination, pages, sources)) {
        job_free(job);
        return throw_type(env, "an extent is empty, not page-aligned or outside user space");
    }
    if (!queue_job(env, job, &promise)) {
        job_free(job);
        return throw_type(env, "the copy cannot be queued");
    }
    return promise;
}

/* One side of copyMapped: its mappings, and for each extent which and where. */
struct mapped_side {
    struct mw_mapping **mappings;
    uint32_t count;
    const uint32_t *file;
    const double *at;
};

static bool take_mappings(napi_env env, napi_value array, struct job *job, struct mapped_side *side)
{
    napi_value element;

    if (napi_get_array_length(env, array, &side->count) != napi_ok || side->count > MW_MAX_MAPPINGS)
        return false;
    side->mappings = job->mappings + job->mapping_count;
    for (uint32_t i = 0; i < side->count; i++) {
        if (napi_get_element(env, array, i, &element) != napi_ok) return false;
        struct mw_mapping *mapping = mw_mapping_hold(env, element);
        if (mapping == NULL) return false;
        job->mappings[job->mapping_count++] = mapping;
    }
    return true;
}

static bool resolve(const struct mapped_side *side, size_t index, uint64_t bytes, uint64_t *address)
{
    if (side->count == 0) return get_address(side->at[index], bytes, address);
    return side->file[index] < side->count &&
           mw_mapping_resolve(side->mappings[side->file[index]], side->at[index], bytes, address);
}

static bool take_mapped(struct job *job, const struct mapped_side *from, const struct mapped_side *to,
                        const uint32_t *pages, size_t count)
{
    job->extents = calloc(count > 0 ? count : 1, sizeof(*job->extents));
    if (job->extents == NULL || from->count == 0) return false;
    for (size_t i = 0; i < count; i++) {
        struct mw_extent *extent = &job->extents[i];

        extent->bytes = (uint64_t)pages[i] * MW_PAGE_BYTES;
        if (extent->bytes == 0 || !resolve(from, i, extent->bytes, &extent->source) ||
            !resolve(to, i, extent->bytes, &extent->destination))
            return false;
    }
    /* Written to by this process's own stores, they must be mapped for it. */
    for (uint32_t i = 0; i < to->count; i++)
        if (!to->mappings[i]->writable) return false;
    job->copy.way = to->count == 0 ? MW_WRITE : MW_STREAM;
    job->copy.extents = job->extents;
    job->copy.count = count;
    return true;
}

static napi_value copy_mapped(napi_env env, napi_callback_info info)
{
    size_t argc = 8, lengths[5];
    napi_value argv[8], promise;
    struct mapped_side from = {0}, to = {0};
    void *from_file, *from_at, *to_file, *to_at, *pages;

    if (napi_get_cb_info(env, info, &argc, argv, NULL, NULL) != napi_ok || argc != 8 ||
        !get_array(env, argv[1], napi_uint32_array, &from_file, &lengths[0]) ||
        !get_array(env, argv[2], napi_float64_array, &from_at, &lengths[1]) ||
        !get_array(env, argv[4], napi_uint32_array, &to_file, &lengths[2]) ||
        !get_array(env, argv[5], napi_float64_array, &to_at, &lengths[3]) ||
        !get_array(env, argv[7], napi_uint32_array, &pages, &lengths[4]))
        return throw_type(env, "copyMapped takes two lists of mappings, a pid and five typed arrays");
    for (int i = 1; i < 5; i++)
        if (lengths[i] != lengths[0]) return throw_type(env, "the typed arrays must be of one length");
    struct job *job = calloc(1, sizeof(*job));
    if (job == NULL) return throw_type(env, "out of memory");
    from.file = from_file, from.at = from_at, to.file = to_file, to.at = to_at;
    if (!get_pid(env, argv[6], &job->copy.destination_pid) || !take_mappings(env, argv[0], job, &from) ||
        !take_mappings(env, argv[3], job, &to) || !take_mapped(job, &from, &to, pages, lengths[0])) {
        job_free(job);
        return throw_type(env, "a pid, mapping or extent is none, or lies outside its mapping");
    }
    if (!queue_job(env, job, &promise)) {
        job_free(job);
        return throw_type(env, "the copy cannot be queued");
    }
    return promise;
}

static int punch_file(const char *path, double offset, double bytes)
{
    int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    int fd = open(path, O_RDWR | O_CLOEXEC);

    if (fd < 0) return -errno;
    int rc = fallocate(fd, mode, (off_t)offset, (off_t)bytes) < 0 ? -errno : 0;
    close(fd);
    return rc;
}

static napi_value punch(napi_env env, napi_callback_info info)
{
    size_t argc = 3, length;
    double offset, bytes;
    char path[512];
    napi_value argv[3], result;

    if (napi_get_cb_info(env, info, &argc, argv, NULL, NULL) != napi_ok || argc != 3 ||
        napi_get_value_string_utf8(env, argv[0], path, sizeof(path), &length) != napi_ok ||
        napi_get_value_double(env, argv[1], &offset) != napi_ok ||
        napi_get_value_double(env, argv[2], &bytes) != napi_ok)
        return throw_type(env, "punch takes a path and two numbers");
    if (length == sizeof(path) - 1 || !(offset >= 0 && offset < (double)ADDRESS_END) ||
        !(bytes > 0 && bytes < (double)ADDRESS_END))
        return throw_type(env, "the path is too long, or the range is none");
    int rc = punch_file(path, offset, bytes);
    napi_status status = rc == 0 ? napi_get_null(env, &result)
                                 : napi_create_string_utf8(env, error_name(rc), NAPI_AUTO_LENGTH, &result);
    return status == napi_ok ? result : NULL;
}

static napi_value init(napi_env env, napi_value exports)
{
    const napi_property_descriptor functions[] = {
        {"copy", NULL, copy, NULL, NULL, NULL, napi_enumerable, NULL},
        {"punch", NULL, punch, NULL, NULL, NULL, napi_enumerable, NULL},
        {"copyMapped", NULL, copy_mapped, NULL, NULL, NULL, napi_enumerable, NULL},
        {"mapFile", NULL, mw_map_file, NULL, NULL, NULL, napi_enumerable, NULL},
        {"unmapFile", NULL, mw_unmap_file, NULL, NULL, NULL, napi_enumerable, NULL},
    };

    if (napi_define_properties(env, exports, 5, functions) != napi_ok) return NULL;
    return exports;
}

NAPI_MODULE(mwarp_host, init)
