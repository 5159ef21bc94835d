/* The two files of page_pinner/ in plain C on libfuse 3: to compare the cost of pinnerfs with.
 *
 *     reference_files RECORDS MOUNTPOINT [OPTION]...
 *
 * RECORDS is a file with the text of longterm_pinner. As in pinnerfs, a read of the file gives
 * one record, and a write to `threshold` clears them. Prints `ready` on stdout once it is mounted.
 */

#define FUSE_USE_VERSION 31

#include <errno.h>
#include <fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DIRECTORY "/page_pinner"
#define THRESHOLD DIRECTORY "/threshold"
#define LONGTERM_PINNER DIRECTORY "/longterm_pinner"

#define MAX_RECORDS 4096
#define TIMEOUT 3600 /* seconds */

enum file { records_file, threshold_file };

struct open_file {
    enum file file;
    size_t position; /* counted in records, or in bytes of the text below */
    size_t length;
    char text[24];
};

static char *text;
static size_t starts[MAX_RECORDS + 1];
static size_t records;
static long long threshold = 300000;

static int load(const char *path)
{
    FILE *file = fopen(path, "r");
    if (!file)
        return -1;
    fseek(file, 0, SEEK_END);
    size_t length = ftell(file);
    rewind(file);
    text = malloc(length + 1);
    if (!text || fread(text, 1, length, file) != length)
        return -1;
    text[length] = '\0';
    fclose(file);
    for (char *end = text; records < MAX_RECORDS && (end = strstr(end, "\n\n")); records++) {
        end += 2;
        starts[records + 1] = end - text;
    }
    return 0;
}

static void *files_init(struct fuse_conn_info *connection, struct fuse_config *config)
{
    (void)connection;
    config->attr_timeout = config->entry_timeout = TIMEOUT;
    config->nullpath_ok = 1;
    puts("ready");
    fflush(stdout);
    return NULL;
}

static int files_getattr(const char *path, struct stat *attributes, struct fuse_file_info *info)
{
    (void)info;
    memset(attributes, 0, sizeof *attributes);
    attributes->st_uid = getuid();
    attributes->st_gid = getgid();
    attributes->st_nlink = 1;
    if (!strcmp(path, "/") || !strcmp(path, DIRECTORY))
        attributes->st_mode = S_IFDIR | 0755;
    else if (!strcmp(path, THRESHOLD))
        attributes->st_mode = S_IFREG | 0644;
    else if (!strcmp(path, LONGTERM_PINNER))
        attributes->st_mode = S_IFREG | 0444;
    else
        return -ENOENT;
    return 0;
}

static int files_open(const char *path, struct fuse_file_info *info)
{
    struct open_file *open_file = calloc(1, sizeof *open_file);
    if (!open_file)
        return -ENOMEM;
    open_file->file = strcmp(path, THRESHOLD) ? records_file : threshold_file;
    info->fh = (uintptr_t)open_file;
    info->direct_io = 1;
    info->nonseekable = 1;
    return 0;
}

static int read_record(struct open_file *open_file, char *buffer, size_t size)
{
    size_t number = open_file->position++;
    if (number >= records)
        return 0;
    size_t length = starts[number + 1] - starts[number];
    if (length > size)
        return -EINVAL;
    memcpy(buffer, text + starts[number], length);
    return length;
}

static int read_threshold(struct open_file *open_file, char *buffer, size_t size)
{
    if (!open_file->position)
        open_file->length = snprintf(open_file->text, sizeof open_file->text, "%lld\n", threshold);
    size_t left = open_file->length - open_file->position;
    size_t length = left < size ? left : size;
    memcpy(buffer, open_file->text + open_file->position, length);
    open_file->position += length;
    return length;
}

static int files_read(const char *path, char *buffer, size_t size, off_t offset, struct fuse_file_info *info)
{
    (void)path, (void)offset;
    struct open_file *open_file = (struct open_file *)(uintptr_t)info->fh;
    if (open_file->file == records_file)
        return read_record(open_file, buffer, size);
    return read_threshold(open_file, buffer, size);
}

static int files_write(const char *path, const char *data, size_t size, off_t offset, struct fuse_file_info *info)
{
    (void)path, (void)offset;
    struct open_file *open_file = (struct open_file *)(uintptr_t)info->fh;
    char number[24] = "", *end;
    if (open_file->file != threshold_file)
        return -EINVAL;
    memcpy(number, data, size < sizeof number ? size : sizeof number - 1);
    errno = 0;
    unsigned long long value = strtoull(number, &end, 0);
    if (errno || end == number || (*end && *end != '\n'))
        return -EINVAL;
    threshold = (long long)value;
    records = 0;
    return size;
}

static int files_truncate(const char *path, off_t length, struct fuse_file_info *info)
{
    (void)path, (void)length, (void)info;
    return 0;
}

static int files_release(const char *path, struct fuse_file_info *info)
{
    (void)path;
    free((void *)(uintptr_t)info->fh);
    return 0;
}

static const struct fuse_operations operations = {
    .init = files_init,
    .getattr = files_getattr,
    .open = files_open,
    .read = files_read,
    .write = files_write,
    .truncate = files_truncate,
    .release = files_release,
};

int main(int argc, char **argv)
{
    if (argc < 3 || load(argv[1])) {
        fprintf(stderr, "usage: %s RECORDS MOUNTPOINT [OPTION]...\n", argv[0]);
        return 2;
    }
    argv[1] = argv[0];
    return fuse_main(argc - 1, argv + 1, &operations, NULL);
}
