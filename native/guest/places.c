/* Growing texts and sets, for programs that end when memory does: what they have to say would not be
 * complete. */
#include "layer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_ROOM 256

void *must_allocate(void *old, size_t bytes)
{
    void *fresh = realloc(old, bytes);

    if (!fresh) {
        fprintf(stderr, "mwarp-guest: no memory\n");
        _Exit(1);
    }
    return fresh;
}

void text_add(struct text *text, const char *bytes, size_t count)
{
    if (count == 0) return;
    while (text->room - text->used < count) {
        text->room = text->room == 0 ? FIRST_ROOM : 2 * text->room;
        text->bytes = must_allocate(text->bytes, text->room);
    }
    memcpy(text->bytes + text->used, bytes, count);
    text->used += count;
}

void text_string(struct text *text, const char *first, const char *second, const char *third)
{
    text_add(text, first, strlen(first));
    text_add(text, second, strlen(second));
    text_add(text, third, strlen(third) + 1);
}

char *path_join(const char *directory, const char *name)
{
    size_t length = strlen(directory);
    char *path = must_allocate(NULL, length + strlen(name) + 2);

    memcpy(path, directory, length);
    path[length] = '/';
    strcpy(path + length + 1, name);
    return path;
}

/* The slot of a place, or the empty one where it belongs. There always is one: half of them are. */
static struct place *slot_of(const struct places *places, struct place place)
{
    uint64_t hash = (place.inode * 0x9e3779b97f4a7c15ULL) ^ (place.device * 0xbf58476d1ce4e5b9ULL);
    size_t at = (hash >> 20) & (places->room - 1);

    while (places->slots[at].inode != 0 &&
           (places->slots[at].inode != place.inode || places->slots[at].device != place.device))
        at = (at + 1) & (places->room - 1);
    return places->slots + at;
}

static void grow(struct places *places)
{
    struct places larger = {.room = places->room == 0 ? FIRST_ROOM : 2 * places->room,
                            .count = places->count};

    larger.slots = must_allocate(NULL, larger.room * sizeof *larger.slots);
    memset(larger.slots, 0, larger.room * sizeof *larger.slots);
    for (size_t i = 0; i < places->room; i++)
        if (places->slots[i].inode != 0) *slot_of(&larger, places->slots[i]) = places->slots[i];
    free(places->slots);
    *places = larger;
}

void places_add(struct places *places, struct place place)
{
    struct place *slot;

    /* No file has the number 0. */
    if (place.inode == 0) return;
    if (2 * places->count >= places->room) grow(places);
    slot = slot_of(places, place);
    if (slot->inode == 0) places->count++;
    *slot = place;
}

bool places_has(const struct places *places, struct place place)
{
    return places->count > 0 && place.inode != 0 && slot_of(places, place)->inode != 0;
}
