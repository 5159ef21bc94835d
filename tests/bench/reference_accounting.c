/* The accounting of page_pinner in plain C, one event at a time, to compare the engine's rate with.
 *
 * A shared library for ctypes, with the rules of tests/kernel/page_pinner/model.py.
 */

#include <stdint.h>
#include <stdlib.h>

enum { get_user_pages, pin_user_pages, put_user_page, unpin_user_page, put_page, free_page, get_page };
enum { cma = 3, ring_size = 4096, head_flag = 1 << 16 };

struct region {
    int64_t start, frames, migratetype, flags;
};

/* elapsed, count, handle, pfn, flags, migratetype */
struct record {
    int64_t field[6];
};

struct accounting {
    int64_t base, threshold;
    const struct region *regions;
    int64_t number_of_regions;
    uint8_t *pinned;
    int32_t *handle;
    int64_t *ts;
    int32_t *count;
    struct record ring[ring_size];
    int64_t index, filled;
    /* pins, releases, longterm_records, overwritten, pinned_now, pinned_now_in_cma */
    int64_t counters[6];
};

void accounting_free(struct accounting *accounting)
{
    free(accounting->pinned);
    free(accounting->handle);
    free(accounting->ts);
    free(accounting->count);
    free(accounting);
}

struct accounting *accounting_new(int64_t base, int64_t frames, int64_t threshold, const struct region *regions, int64_t number)
{
    struct accounting *accounting = calloc(1, sizeof *accounting);
    accounting->base = base;
    accounting->threshold = threshold;
    accounting->regions = regions;
    accounting->number_of_regions = number;
    accounting->pinned = calloc(frames, sizeof *accounting->pinned);
    accounting->handle = calloc(frames, sizeof *accounting->handle);
    accounting->ts = calloc(frames, sizeof *accounting->ts);
    accounting->count = calloc(frames, sizeof *accounting->count);
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

static void record(struct accounting *accounting, int64_t elapsed, int64_t frame, int64_t pfn, int order)
{
    const struct region *region = region_of(accounting, pfn);
    accounting->ring[accounting->index] = (struct record){{
        elapsed,
        accounting->count[frame],
        accounting->handle[frame],
        pfn,
        (region ? region->flags : 0) | (order ? head_flag : 0),
        region ? region->migratetype : 0,
    }};
    accounting->index = (accounting->index + 1) % ring_size;
    accounting->counters[2]++;
    if (accounting->filled == ring_size)
        accounting->counters[3]++;
    else
        accounting->filled++;
}

static void release(struct accounting *accounting, int64_t time, int64_t frame, int64_t pfn, int order)
{
    if (!accounting->pinned[frame])
        return;
    int64_t elapsed = time > accounting->ts[frame] ? time - accounting->ts[frame] : 0;
    if (elapsed > accounting->threshold)
        record(accounting, elapsed, frame, pfn, order);
    accounting->pinned[frame] = 0;
    if (accounting->count[frame] > 0)
        accounting->count[frame]--;
    count_pinned(accounting, frame, -1);
}

void accounting_apply(struct accounting *accounting, const int64_t *time, const uint8_t *kind, const int64_t *pfn,
                 const uint8_t *order, const int32_t *handle, const int64_t *pages, int64_t events)
{
    for (int64_t event = 0; event < events; event++) {
        int pin = kind[event] == get_user_pages || kind[event] == pin_user_pages;
        int put = kind[event] == put_user_page || kind[event] == unpin_user_page;
        if (!pin && !put && kind[event] != free_page)
            continue;
        accounting->counters[0] += pin ? pages[event] : 0;
        accounting->counters[1] += put ? pages[event] : 0;
        int64_t first = pfn[event] - accounting->base;
        for (int64_t frame = first; frame < first + (pages[event] << order[event]); frame++) {
            if (put) {
                int64_t page = first + ((frame - first) >> order[event] << order[event]);
                release(accounting, time[event], frame, page + accounting->base, order[event]);
            } else {
                if (accounting->pinned[frame] != pin)
                    count_pinned(accounting, frame, pin ? 1 : -1);
                accounting->pinned[frame] = pin;
                accounting->count[frame] = pin ? accounting->count[frame] + 1 : 0;
                if (pin) {
                    accounting->handle[frame] = handle[event];
                    accounting->ts[frame] = time[event];
                }
            }
        }
    }
}

void accounting_counters(const struct accounting *accounting, int64_t *counters)
{
    for (int at = 0; at < 6; at++)
        counters[at] = accounting->counters[at];
}

/* Copy the records, newest first, and return their number. */
int64_t accounting_records(const struct accounting *accounting, struct record *records)
{
    for (int64_t at = 0; at < accounting->filled; at++)
        records[at] = accounting->ring[(accounting->index - 1 - at + ring_size) % ring_size];
    return accounting->filled;
}
