/* The accounting of page_pinner in plain C, one event at a time, to compare the engine's rate with.
 *
 * A shared library for ctypes, with the rules of tests/kernel/page_pinner/model.py for the kernel `introduced`, and with
 * the same state: references and mappings of each page beside its mark.
 */

#include <stdint.h>
#include <stdlib.h>

enum { get_user_pages, pin_user_pages, put_user_page, unpin_user_page, put_page, free_page, get_page, map, unmap };
enum { cma = 3, ring_size = 4096, head_flag = 1 << 16, lru_flag = 1 << 4, pin_bias = 1024 };
enum { present = 1, on_lru = 2 };

struct region {
    int64_t start, frames, migratetype, flags;
};

/* time, pfn, flags, mapping, count, handle, mapcount, kind, call, migratetype */
struct record {
    int64_t field[10];
};

struct accounting {
    int64_t base, frames, threshold;
    const struct region *regions;
    int64_t number_of_regions;
    int32_t *references;
    int16_t *mapcount;
    uint8_t *bits;
    int32_t *attribution; /* the handle of the last pin, negative without the mark */
    int64_t *ts;
    int32_t *pins;
    struct record ring[ring_size];
    int64_t index, filled;
    /* pins, releases, longterm_records, overwritten, pinned_now, pinned_now_in_cma */
    int64_t counters[6];
};

void accounting_free(struct accounting *accounting)
{
    free(accounting->references);
    free(accounting->mapcount);
    free(accounting->bits);
    free(accounting->attribution);
    free(accounting->ts);
    free(accounting->pins);
    free(accounting);
}

struct accounting *accounting_new(int64_t base, int64_t frames, int64_t threshold, const struct region *regions, int64_t number)
{
    struct accounting *accounting = calloc(1, sizeof *accounting);
    accounting->base = base;
    accounting->frames = frames;
    accounting->threshold = threshold;
    accounting->regions = regions;
    accounting->number_of_regions = number;
    accounting->references = calloc(frames, sizeof *accounting->references);
    accounting->mapcount = calloc(frames, sizeof *accounting->mapcount);
    accounting->bits = calloc(frames, sizeof *accounting->bits);
    accounting->attribution = calloc(frames, sizeof *accounting->attribution);
    accounting->ts = calloc(frames, sizeof *accounting->ts);
    accounting->pins = calloc(frames, sizeof *accounting->pins);
    return accounting;
}

static const struct region *region_of(const struct accounting *accounting, int64_t pfn)
{
    for (int64_t at = 0; at < accounting->number_of_regions; at++)
        if (pfn - accounting->regions[at].start >= 0 && pfn - accounting->regions[at].start < accounting->regions[at].frames)
            return accounting->regions + at;
    return NULL;
}

static void count_pinned(struct accounting *accounting, int64_t frame, int change)
{
    const struct region *region = region_of(accounting, frame + accounting->base);
    accounting->counters[4] += change;
    if (region && region->migratetype == cma)
        accounting->counters[5] += change;
}

static void clear_mark(struct accounting *accounting, int64_t frame)
{
    if (accounting->attribution[frame] > 0) {
        accounting->attribution[frame] = -accounting->attribution[frame];
        count_pinned(accounting, frame, -1);
    }
}

static void record(struct accounting *accounting, int64_t elapsed, int64_t frame, int64_t pfn, int order, int call)
{
    const struct region *region = region_of(accounting, pfn);
    int64_t flags = region ? region->flags & ~(int64_t)lru_flag : 0;
    flags |= (accounting->bits[frame] & on_lru ? lru_flag : 0) | (order ? head_flag : 0);
    accounting->ring[accounting->index] = (struct record){{
        elapsed,
        pfn,
        flags,
        0,
        accounting->pins[frame],
        accounting->attribution[frame],
        accounting->mapcount[frame],
        0,
        call,
        region ? region->migratetype : 0,
    }};
    accounting->index = (accounting->index + 1) % ring_size;
    accounting->counters[2]++;
    if (accounting->filled == ring_size)
        accounting->counters[3]++;
    else
        accounting->filled++;
}

static void release(struct accounting *accounting, int64_t time, int64_t frame, int64_t pfn, int order, int call)
{
    if (accounting->attribution[frame] <= 0)
        return;
    int64_t elapsed = time > accounting->ts[frame] ? time - accounting->ts[frame] : 0;
    if (elapsed > accounting->threshold)
        record(accounting, elapsed, frame, pfn, order, call);
    clear_mark(accounting, frame);
    if (accounting->pins[frame] > 0)
        accounting->pins[frame]--;
}

static void pin(struct accounting *accounting, int64_t time, int64_t frame, int32_t handle)
{
    if (accounting->attribution[frame] <= 0)
        count_pinned(accounting, frame, 1);
    accounting->attribution[frame] = handle;
    accounting->ts[frame] = time;
    accounting->pins[frame]++;
}

static void end_page(struct accounting *accounting, int64_t frame)
{
    clear_mark(accounting, frame);
    accounting->pins[frame] = 0;
    accounting->references[frame] = 0;
    accounting->mapcount[frame] = 0;
    accounting->bits[frame] = 0;
}

static void appear(struct accounting *accounting, int64_t frame)
{
    if (accounting->bits[frame] & present)
        return;
    const struct region *region = region_of(accounting, frame + accounting->base);
    accounting->bits[frame] = present | (region && region->flags & lru_flag ? on_lru : 0);
}

static void drop(struct accounting *accounting, int64_t frame, int references)
{
    if (accounting->references[frame] > references)
        accounting->references[frame] -= references;
    else
        accounting->references[frame] = 0;
    if (accounting->bits[frame] && !accounting->references[frame] && !accounting->mapcount[frame])
        end_page(accounting, frame);
}

static void happen(struct accounting *accounting, int64_t time, int kind, int64_t frame, int64_t pfn, int order, int32_t handle)
{
    int bias = order < 2 ? pin_bias : 1;

    switch (kind) {
    case get_user_pages:
    case pin_user_pages:
    case get_page:
        appear(accounting, frame);
        accounting->references[frame] += kind == pin_user_pages ? bias : 1;
        if (!accounting->mapcount[frame])
            accounting->mapcount[frame] = 1;
        if (kind != get_page)
            pin(accounting, time, frame, handle);
        break;
    case put_user_page:
    case unpin_user_page:
        release(accounting, time, frame, pfn, order, kind);
        drop(accounting, frame, kind == unpin_user_page ? bias : 1);
        break;
    case put_page:
        drop(accounting, frame, 1);
        break;
    case free_page:
        end_page(accounting, frame);
        break;
    case map:
        appear(accounting, frame);
        accounting->mapcount[frame]++;
        break;
    case unmap:
        if (accounting->mapcount[frame]) {
            accounting->bits[frame] |= on_lru;
            accounting->mapcount[frame]--;
            drop(accounting, frame, 0);
        }
    }
}

void accounting_apply(struct accounting *accounting, const int64_t *time, const uint8_t *kind, const int64_t *pfn,
                 const uint8_t *order, const int32_t *handle, const int64_t *pages, int64_t events)
{
    for (int64_t event = 0; event < events; event++) {
        if (kind[event] == get_user_pages || kind[event] == pin_user_pages)
            accounting->counters[0] += pages[event];
        if (kind[event] == put_user_page || kind[event] == unpin_user_page)
            accounting->counters[1] += pages[event];
        int64_t first = pfn[event] - accounting->base;
        for (int64_t frame = first; frame < first + (pages[event] << order[event]); frame++) {
            int64_t page = first + ((frame - first) >> order[event] << order[event]);
            happen(accounting, time[event], kind[event], frame, page + accounting->base, order[event], handle[event]);
        }
    }
}

/* The counters, and the sums of all frames' references, mappings and bits. */
void accounting_counters(const struct accounting *accounting, int64_t *counters)
{
    for (int at = 0; at < 6; at++)
        counters[at] = accounting->counters[at];
    for (int64_t frame = 0; frame < accounting->frames; frame++) {
        counters[6] += accounting->references[frame];
        counters[7] += accounting->mapcount[frame];
        counters[8] += accounting->bits[frame];
    }
}

/* Copy the records, newest first, and return their number. */
int64_t accounting_records(const struct accounting *accounting, struct record *records)
{
    for (int64_t at = 0; at < accounting->filled; at++)
        records[at] = accounting->ring[(accounting->index - 1 - at + ring_size) % ring_size];
    return accounting->filled;
}
