/* Use a file of page_pinner/ again and again. Print the seconds that it took and the number of reads.
 *
 *     client read FILE ROUNDS     open, read to the end, close
 *     client once FILE ROUNDS     open, one read, close
 *     client write FILE ROUNDS    open with truncate, write a number, close: as `echo 300000 > FILE`
 */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char NUMBER[] = "300000\n";

static int one_round(const char *way, const char *path, long *reads)
{
    static char buffer[4096];
    ssize_t got = 0;
    int writes = !strcmp(way, "write");
    int descriptor = open(path, writes ? O_WRONLY | O_CREAT | O_TRUNC : O_RDONLY, 0666);
    if (descriptor < 0)
        return -1;
    if (writes)
        got = write(descriptor, NUMBER, sizeof NUMBER - 1);
    else
        do {
            got = read(descriptor, buffer, sizeof buffer);
            ++*reads;
        } while (got > 0 && strcmp(way, "once"));
    return close(descriptor) || got < 0 ? -1 : 0;
}

int main(int argc, char **argv)
{
    struct timespec began, ended;
    long reads = 0;
    if (argc != 4)
        return 2;
    clock_gettime(CLOCK_MONOTONIC, &began);
    for (long round = atol(argv[3]); round > 0; round--)
        if (one_round(argv[1], argv[2], &reads)) {
            perror(argv[2]);
            return 1;
        }
    clock_gettime(CLOCK_MONOTONIC, &ended);
    printf("%.9f %ld\n", ended.tv_sec - began.tv_sec + (ended.tv_nsec - began.tv_nsec) / 1e9, reads);
    return 0;
}
