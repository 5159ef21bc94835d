#!/bin/sh
# Prints a capture of this device's page_pinner: `pinnerfs report` reads it, and `pinnerfs mount` replays it.
#   adb root; adb shell < record.sh > capture.txt
# The argument is the debugfs, /sys/kernel/debug by default. Needs a POSIX shell and cat.

# A function, so that a shell that gets the script on its standard input reads all of it before it runs a command.
record() {
    LC_ALL=C # for the order of names, the ranges of characters, and the words of errors
    export LC_ALL
    root=${1:-/sys/kernel/debug}
    pinner=$root/page_pinner
    if [ ! -d "$pinner" ]; then
        echo "record.sh: there is no $pinner: run this as root (adb root), mount debugfs (mount -t debugfs none $root)," \
            'and boot a kernel that has page_pinner with page_pinner in its command line' >&2
        return 2
    fi

    echo '------ PINNERFS CAPTURE 1 ------'
    for name in longterm_pinner alloc_contig_failed buffer threshold failure_tracking buffer_size; do
        # A pattern finds a name in a directory although SELinux hides the file behind it.
        for file in "$pinner"/*; do
            [ "${file##*/}" != "$name" ] || show 'PAGE PINNER' "page_pinner/$name"
        done
    done
    unnamed=
    for area in "$root"/cma/*; do
        case ${area##*/} in
            *[!\ -~]* | *[\(\):\\]*) unnamed=yes && continue ;;
        esac
        for name in base_pfn count order_per_bit used maxchunk bitmap; do
            [ ! -e "$area/$name" ] || show CMA "cma/${area##*/}/$name"
        done
    done
    if [ "$unnamed" ]; then
        echo '------ CMA (/sys/kernel/debug/cma) ------'
        echo 'Unable to read /sys/kernel/debug/cma: an area has a name with a parenthesis, a colon, a backslash,' \
            'or a character that is no printable ASCII'
    fi
    [ ! -e "$root/dma_buf/bufinfo" ] || show DMABUF dma_buf/bufinfo
    # Beside a mount of pinnerfs, /proc tells of the computer and not of the device.
    if [ ! -d "$root/.pinnerfs" ]; then
        show KERNEL /proc/version
        show 'COMMAND LINE' /proc/cmdline
        show MEMORY /proc/meminfo
    fi
    echo '------ END ------'
}

# Prints a section: its title, the file, and why it could not be read. cat reads a record at once, because its buffer
# has 4096 bytes or more and no record is longer.
show() {
    case $2 in
        /*) path=$2 source=$2 ;;
        *) path=/sys/kernel/debug/$2 source=$root/$2 ;;
    esac
    echo "------ $1 ($path) ------"
    { problem=$(cat "$source" 2>&1 >&3); } 3>&1 || echo "Unable to read $path: ${problem##*: }"
}

record "$@"
