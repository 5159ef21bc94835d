/*
 * Prints what a Pixel's bug report has of memory since the middle of 2023. The titles, the paths and the order are those
 * of Pixel's own program. A file is read in pieces of argv[1] bytes, and one failed read loses all of it.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static size_t piece;

/* Returns the whole text of a file, or NULL if an open or a read fails. */
static char *whole(const char *path)
{
	size_t length = 0;
	char *text = NULL;
	ssize_t got;
	int file = open(path, O_RDONLY | O_CLOEXEC);

	if (file < 0)
		return NULL;
	do {
		char *longer = realloc(text, length + piece + 1);

		if (!longer)
			abort();
		text = longer;
		got = read(file, text + length, piece);
		if (got > 0)
			length += (size_t)got;
	} while (got > 0);
	close(file);
	if (got < 0) {
		free(text);
		return NULL;
	}
	text[length] = '\0';
	return text;
}

static void dump(const char *title, const char *path)
{
	char *text = whole(path);

	printf("------ %s (%s) ------\n", title, path);
	if (text)
		printf("%s\n", text);
	else
		printf("Unable to read %s\n", path);
	free(text);
}

/* Calls `show` for each entry of a directory that is not hidden, until it returns 0. A missing directory has none. */
static void each_entry(const char *directory, int (*show)(const char *path, const char *name))
{
	DIR *entries = opendir(directory);
	struct dirent *entry;
	char path[4096];

	if (!entries)
		return;
	while ((entry = readdir(entries))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof path, "%s%s", directory, entry->d_name);
		if (!show(path, entry->d_name))
			break;
	}
	closedir(entries);
}

static int file(const char *path, const char *name)
{
	dump(name, path);
	return 1;
}

/* A plain file among the directories ends the loop. */
static int directory(const char *path, const char *name)
{
	char below[4096 + 1];
	DIR *entries = opendir(path);

	(void)name;
	if (!entries)
		return 0;
	closedir(entries);
	snprintf(below, sizeof below, "%s/", path);
	each_entry(below, file);
	return 1;
}

static int area(const char *path, const char *name)
{
	static const char *const names[] = { "count", "used", "bitmap" };
	char below[4096 + 8];

	(void)name;
	for (size_t i = 0; i < 3; i++) {
		snprintf(below, sizeof below, "%s/%s", path, names[i]);
		dump(names[i], below);
	}
	return 1;
}

int main(int argc, char **argv)
{
	piece = argc > 1 ? strtoul(argv[1], NULL, 10) : 4096;
	puts("------ ION HEAPS  ------");
	each_entry("/d/ion/", directory);
	dump("dmabuf info", "/d/dma_buf/bufinfo");
	dump("Page Pinner - longterm pin", "/sys/kernel/debug/page_pinner/buffer");
	puts("------ CMA info  ------");
	each_entry("/sys/kernel/debug/cma/", area);
	puts("------ Pixel CMA stat  ------");
	each_entry("/sys/kernel/pixel_stat/mm/cma/", directory);
	dump("Pixel Trace", "/sys/kernel/tracing/instances/pixel/trace");
	return 0;
}
