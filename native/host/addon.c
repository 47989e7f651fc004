/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The N-API face of native/host. Types are those of src/warp/native.ts.
 *
 *   copy(sourcePid, destinationPid, sourceAddresses: Float64Array, destinationAddresses: Float64Array,
 *        pages: Uint32Array): Promise<number>      bytes copied; rejects with { code, side, index }
 *   punch(path, offset, bytes): string | null      name of the error; frees a range of a memory file
 *   measure(pages, runPages, hostPageBytes): { remapNs, touchNs, copyNs } | null
 */
#define _GNU_SOURCE
#define NAPI_VERSION 8
#include <node_api.h>

#include "copy.h"

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
    int rc;
};

static void job_free(struct job *job)
{
    if (job == NULL) return;
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

static bool set_number(napi_env env, napi_value object, const char *name, uint64_t number)
{
    napi_value value;

    return napi_create_double(env, (double)number, &value) == napi_ok &&
           napi_set_named_property(env, object, name, value) == napi_ok;
}

static napi_value measure(napi_env env, napi_callback_info info)
{
    uint32_t numbers[3];
    struct mw_costs costs;
    size_t argc = 3;
    napi_value argv[3], result;

    if (napi_get_cb_info(env, info, &argc, argv, NULL, NULL) != napi_ok || argc != 3)
        return throw_type(env, "measure takes pages, pages of a run and bytes of a host page");
    for (int i = 0; i < 3; i++)
        if (napi_get_value_uint32(env, argv[i], &numbers[i]) != napi_ok)
            return throw_type(env, "measure takes three numbers");
    int rc = mw_measure_costs(numbers[0], numbers[1], numbers[2], &costs);
    if (rc == -EINVAL)
        return throw_type(env, "runs must divide the pages into a power of two, and be whole host pages");
    if (rc < 0) return napi_get_null(env, &result) == napi_ok ? result : NULL;
    if (napi_create_object(env, &result) != napi_ok || !set_number(env, result, "remapNs", costs.remap_ns) ||
        !set_number(env, result, "touchNs", costs.touch_ns) ||
        !set_number(env, result, "copyNs", costs.copy_ns))
        return NULL;
    return result;
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
        {"measure", NULL, measure, NULL, NULL, NULL, napi_enumerable, NULL},
    };

    if (napi_define_properties(env, exports, 3, functions) != napi_ok) return NULL;
    return exports;
}

NAPI_MODULE(mwarp_host, init)
