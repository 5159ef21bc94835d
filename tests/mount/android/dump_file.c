/*
 * Prints files as Android's dumpstate HAL did until 2023: dump_file TITLE PATH [TITLE PATH]... Each must poll as readable
 * within 30 s, and is read in pieces of 65536 bytes. What was read before an error stays.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char buffer[65536];

static void dump(const char *title, const char *path)
{
	int newline = 0;
	int file = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (file < 0) {
		printf("*** Error dumping %s (%s): %s\n", path, title, strerror(errno));
		return;
	}
	printf("------ %s (%s) ------\n", title, path);
	for (;;) {
		struct pollfd wait = { .fd = file, .events = POLLIN };
		int ready = poll(&wait, 1, 30000);
		ssize_t got;

		if (ready == 0) {
			printf("*** %s: Timed out after 30s\n", path);
			newline = 1;
			break;
		}
		got = ready < 0 ? -1 : read(file, buffer, sizeof buffer);
		if (got < 0) {
			printf("*** %s: Failed to read from fd: %s\n", path, strerror(errno));
			newline = 1;
			break;
		}
		if (got == 0)
			break;
		fwrite(buffer, 1, (size_t)got, stdout);
		newline = buffer[got - 1] == '\n';
	}
	if (!newline)
		putchar('\n');
	putchar('\n');
	close(file);
}

int main(int argc, char **argv)
{
	for (int i = 1; i + 1 < argc; i += 2)
		dump(argv[i], argv[i + 1]);
	return 0;
}
