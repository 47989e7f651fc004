/* Reads fields of a message in protobuf's wire format, which CRIU and runc speak (images/rpc.proto). */
#include "guest.h"

static const unsigned char *take_varint(const unsigned char *at, const unsigned char *end, uint64_t *value)
{
    *value = 0;
    for (unsigned shift = 0; at < end && shift < 64; shift += 7) {
        *value |= (uint64_t)(*at & 0x7f) << shift;
        if (!(*at++ & 0x80)) return at;
    }
    return NULL;
}

/* The next field of a message (protobuf's wire format); NULL at its end or where it makes no sense. */
static const unsigned char *take_field(const unsigned char *at, const unsigned char *end, struct protobuf_field *field)
{
    uint64_t key, length = 0;

    *field = (struct protobuf_field){0};
    if (at == NULL || at == end || !(at = take_varint(at, end, &key))) return NULL;
    field->number = (uint32_t)(key >> 3);
    switch (key & 7) {
    case 0:
        return take_varint(at, end, &field->value);
    case 1:
        length = 8;
        break;
    case 2:
        at = take_varint(at, end, &length);
        break;
    case 5:
        length = 4;
        break;
    default:
        return NULL;
    }
    if (at == NULL || length > (uint64_t)(end - at)) return NULL;
    field->bytes = at;
    field->length = length;
    return at + length;
}

bool protobuf_find(const unsigned char *bytes, size_t length, uint32_t number, struct protobuf_field *field)
{
    const unsigned char *at = bytes;

    while ((at = take_field(at, bytes + length, field)))
        if (field->number == number) return true;
    return false;
}
