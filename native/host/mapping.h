/* SPDX-License-Identifier: Apache-2.0 */
/* Memory files of other processes, mapped here to be copied from or to. Used by the main thread only. */
#ifndef MWARP_HOST_MAPPING_H
#define MWARP_HOST_MAPPING_H

#define NAPI_VERSION 8
#include "copy.h"

#include <node_api.h>
#include <stdbool.h>

/* Files behind one VM's RAM: its own and one of each VM that it has exchanged frames with. */
#define MW_MAX_MAPPINGS 64u

struct mw_mapping {
    char *at; /* NULL once unmapped */
    uint64_t bytes;
    bool writable;
    bool closing;
    unsigned int users; /* jobs under way */
};

napi_value mw_map_file(napi_env env, napi_callback_info info);
/* Throws EBUSY while a job uses it. */
napi_value mw_unmap_file(napi_env env, napi_callback_info info);

/* The mapping behind an External, with one user more; NULL when it is none, or is unmapped. */
struct mw_mapping *mw_mapping_hold(napi_env env, napi_value value);
void mw_mapping_release(struct mw_mapping *mapping);
/* Address of [offset, offset + bytes) of the file; false when that is not all mapped, or not whole pages. */
bool mw_mapping_resolve(const struct mw_mapping *mapping, double offset, uint64_t bytes, uint64_t *address);

#endif
