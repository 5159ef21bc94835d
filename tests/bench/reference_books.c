/* The books of page_pinner in plain C, one event at a time: what the engine's rate is held against.
 *
 * A shared library for ctypes. The rules are those of tests/kernel/page_pinner/model.py.
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

struct books {
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

void books_free(struct books *books)
{
    free(books->pinned);
    free(books->handle);
    free(books->ts);
    free(books->count);
    free(books);
}

struct books *books_new(int64_t base, int64_t frames, int64_t threshold, const struct region *regions, int64_t number)
{
    struct books *books = calloc(1, sizeof *books);
    books->base = base;
    books->threshold = threshold;
    books->regions = regions;
    books->number_of_regions = number;
    books->pinned = calloc(frames, sizeof *books->pinned);
    books->handle = calloc(frames, sizeof *books->handle);
    books->ts = calloc(frames, sizeof *books->ts);
    books->count = calloc(frames, sizeof *books->count);
    return books;
}

static const struct region *region_of(const struct books *books, int64_t pfn)
{
    for (int64_t at = 0; at < books->number_of_regions; at++)
        if (pfn - books->regions[at].start >= 0 && pfn - books->regions[at].start < books->regions[at].frames)
            return books->regions + at;
    return NULL;
}

static void count_pinned(struct books *books, int64_t frame, int change)
{
    const struct region *region = region_of(books, frame + books->base);
    books->counters[4] += change;
    if (region && region->migratetype == cma)
        books->counters[5] += change;
}

static void record(struct books *books, int64_t elapsed, int64_t frame, int64_t pfn, int order)
{
    const struct region *region = region_of(books, pfn);
    books->ring[books->index] = (struct record){{
        elapsed,
        books->count[frame],
        books->handle[frame],
        pfn,
        (region ? region->flags : 0) | (order ? head_flag : 0),
        region ? region->migratetype : 0,
    }};
    books->index = (books->index + 1) % ring_size;
    books->counters[2]++;
    if (books->filled == ring_size)
        books->counters[3]++;
    else
        books->filled++;
}

static void release(struct books *books, int64_t time, int64_t frame, int64_t pfn, int order)
{
    if (!books->pinned[frame])
        return;
    int64_t elapsed = time > books->ts[frame] ? time - books->ts[frame] : 0;
    if (elapsed > books->threshold)
        record(books, elapsed, frame, pfn, order);
    books->pinned[frame] = 0;
    if (books->count[frame] > 0)
        books->count[frame]--;
    count_pinned(books, frame, -1);
}

void books_apply(struct books *books, const int64_t *time, const uint8_t *kind, const int64_t *pfn,
                 const uint8_t *order, const int32_t *handle, const int64_t *pages, int64_t events)
{
    for (int64_t event = 0; event < events; event++) {
        int pin = kind[event] == get_user_pages || kind[event] == pin_user_pages;
        int put = kind[event] == put_user_page || kind[event] == unpin_user_page;
        if (!pin && !put && kind[event] != free_page)
            continue;
        books->counters[0] += pin ? pages[event] : 0;
        books->counters[1] += put ? pages[event] : 0;
        int64_t first = pfn[event] - books->base;
        for (int64_t frame = first; frame < first + (pages[event] << order[event]); frame++) {
            if (put) {
                int64_t page = first + ((frame - first) >> order[event] << order[event]);
                release(books, time[event], frame, page + books->base, order[event]);
            } else {
                if (books->pinned[frame] != pin)
                    count_pinned(books, frame, pin ? 1 : -1);
                books->pinned[frame] = pin;
                books->count[frame] = pin ? books->count[frame] + 1 : 0;
                if (pin) {
                    books->handle[frame] = handle[event];
                    books->ts[frame] = time[event];
                }
            }
        }
    }
}

void books_counters(const struct books *books, int64_t *counters)
{
    for (int at = 0; at < 6; at++)
        counters[at] = books->counters[at];
}

/* Copies the records, newest first, and says how many there are. */
int64_t books_records(const struct books *books, struct record *records)
{
    for (int64_t at = 0; at < books->filled; at++)
        records[at] = books->ring[(books->index - 1 - at + ring_size) % ring_size];
    return books->filled;
}
