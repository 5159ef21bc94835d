/* CMA allocations and the records they leave on android14-6.1's page_pinner, one page at a time: the same rules as
 * tests/kernel/cma/model.py. Built and called by reference_cma.py. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 32, LRU_BATCH = 15, PASSES = 50, RING = 4096 };
enum { DETECT, PUT, FREE_KIND };

struct page {
	int32_t gets;
	int16_t mapcount;
	uint8_t present, cached, lru, batched, isolated, failed;
	int64_t ts;
};

struct record {
	int64_t kind, pfn, count, mapcount, time;
};

struct cma {
	int64_t base, pages, now, total;
	struct page *page;
	uint8_t *bits;
	int64_t batch[LRU_BATCH];
	int batched;
	struct record ring[RING];
};

static int64_t references(const struct page *page)
{
	return page->mapcount + page->gets + page->cached + page->batched + page->isolated;
}

static void record(struct cma *cma, int64_t at, int kind)
{
	struct page *page = &cma->page[at];
	struct record *slot = &cma->ring[cma->total++ % RING];
	int64_t elapsed = cma->now - page->ts;

	slot->kind = kind;
	slot->pfn = cma->base + at;
	slot->count = references(page);
	slot->mapcount = page->mapcount;
	slot->time = kind == PUT ? (elapsed > 0 ? elapsed : 0) : cma->now;
}

static void put(struct cma *cma, int64_t at)
{
	if (cma->page[at].failed)
		record(cma, at, PUT);
}

static void mark(struct cma *cma, int64_t at)
{
	struct page *page = &cma->page[at];

	if (page->failed)
		return;
	page->failed = 1;
	if (!page->ts)
		page->ts = cma->now;
	record(cma, at, DETECT);
}

static void free_page(struct cma *cma, int64_t at)
{
	if (cma->page[at].failed)
		record(cma, at, FREE_KIND);
	memset(&cma->page[at], 0, sizeof(struct page));
}

static void empty_batch(struct cma *cma)
{
	int count = cma->batched;

	cma->batched = 0;
	for (int i = 0; i < count; i++) {
		cma->page[cma->batch[i]].batched = 0;
		cma->page[cma->batch[i]].lru = 1;
	}
	for (int i = 0; i < count; i++)
		put(cma, cma->batch[i]);
	for (int i = count - 1; i >= 0; i--)
		if (!references(&cma->page[cma->batch[i]]))
			free_page(cma, cma->batch[i]);
}

/* One pass over pages, the last one first. Return how many stay, in the same order. */
static int try_pages(struct cma *cma, int64_t *batch, int count)
{
	int left = 0;

	for (int i = 0; i < count; i++) {
		struct page *page = &cma->page[batch[i]];
		int mapped = page->mapcount;

		while (page->mapcount) {
			page->mapcount--;
			put(cma, batch[i]);
		}
		if (page->gets) {
			page->mapcount = mapped;
			batch[left++] = batch[i];
			continue;
		}
		page->isolated = page->cached = page->lru = 0;
		put(cma, batch[i]);
		free_page(cma, batch[i]);
	}
	return left;
}

/* Return whether pages of the batch stay. */
static int migrate(struct cma *cma, const int64_t *found, int count)
{
	int64_t batch[BATCH];
	int left = count, marked = 0;

	for (int i = 0; i < count; i++)
		batch[i] = found[count - 1 - i];
	left = try_pages(cma, batch, left);
	for (int i = 0; i < left; i++)
		marked |= cma->page[batch[i]].failed && cma->page[batch[i]].mapcount;
	for (int pass = 1; marked && pass < PASSES; pass++)
		left = try_pages(cma, batch, left);
	for (int i = 0; i < left; i++)
		mark(cma, batch[i]);
	for (int i = 0; i < left; i++) {
		cma->page[batch[i]].batched = 1;
		cma->batch[cma->batched++] = batch[i];
		if (cma->batched == LRU_BATCH)
			empty_batch(cma);
		cma->page[batch[i]].isolated = 0;
		put(cma, batch[i]);
	}
	return left > 0;
}

static int attempt(struct cma *cma, int64_t first, int64_t pages)
{
	int64_t batch[BATCH];
	int count = 0, failed = 0;

	empty_batch(cma);
	for (int64_t at = first; at < first + pages && !failed; at++) {
		struct page *page = &cma->page[at];

		if (!page->present || !page->lru)
			continue;
		if (!page->cached && references(page) > page->mapcount) {
			put(cma, at);
			continue;
		}
		page->lru = 0;
		page->isolated = 1;
		batch[count++] = at;
		if (count == BATCH) {
			failed = migrate(cma, batch, count);
			count = 0;
		}
	}
	if (count && !failed)
		migrate(cma, batch, count);
	for (int64_t at = first; at < first + pages; at++)
		if (cma->page[at].present) {
			mark(cma, at);
			return 0;
		}
	return 1;
}

static int64_t find(const struct cma *cma, int64_t start, int64_t pages)
{
	int64_t run = 0;

	for (int64_t at = start; at < cma->pages; at++) {
		run = cma->bits[at] ? 0 : run + 1;
		if (run == pages)
			return at + 1 - pages;
	}
	return -1;
}

struct cma *cma_new(int64_t base, int64_t pages)
{
	struct cma *cma = calloc(1, sizeof(*cma));

	cma->base = base;
	cma->pages = pages;
	cma->page = calloc(pages, sizeof(struct page));
	cma->bits = calloc(pages, 1);
	return cma;
}

void cma_free(struct cma *cma)
{
	free(cma->page);
	free(cma->bits);
	free(cma);
}

void cma_pin(struct cma *cma, const int64_t *pfns, int64_t count, int file)
{
	for (int64_t i = 0; i < count; i++) {
		struct page *page = &cma->page[pfns[i] - cma->base];

		page->present = page->lru = 1;
		page->cached = file;
		page->mapcount = 1;
		page->gets++;
	}
}

/* Allocate so many pages, and give them back; the first PFN of each goes to `got`, or 0. */
void cma_allocate(struct cma *cma, const int64_t *pages, int64_t *got, int64_t count, int64_t step)
{
	for (int64_t i = 0; i < count; i++) {
		int64_t first = 0;

		cma->now += step;
		got[i] = 0;
		while ((first = find(cma, first, pages[i])) >= 0) {
			memset(cma->bits + first, 1, pages[i]);
			if (attempt(cma, first, pages[i])) {
				got[i] = cma->base + first;
				memset(cma->bits + first, 0, pages[i]);
				break;
			}
			memset(cma->bits + first, 0, pages[i]);
			first++;
		}
	}
}

/* Return the number of records so far, and the newest ones, newest first. */
int64_t cma_records(const struct cma *cma, struct record *out)
{
	int64_t kept = cma->total < RING ? cma->total : RING;

	for (int64_t i = 0; i < kept; i++)
		out[i] = cma->ring[(cma->total - 1 - i) % RING];
	return cma->total;
}
