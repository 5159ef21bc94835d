#!/vendor/bin/sh
# Prints what a Pixel's bug report had of memory in 2023: the titles, the paths and the order are those of its script.

title() {
    echo "------ $1 ------"
}

# Prints each file of each directory, and files beside them.
each_file() {
    for entry in $(ls -d $1); do
        if [ -f $entry ]; then
            echo --- $entry
            cat $entry
        else
            for name in $(ls $entry); do
                echo --- $entry/$name
                cat $entry/$name
            done
        fi
    done
}

title 'ION HEAPS'
each_file '/d/ion/*'
title 'dmabuf info'
cat /d/dma_buf/bufinfo
title 'Page Pinner - longterm pin'
cat /sys/kernel/debug/page_pinner/buffer
title 'CMA info'
for area in $(ls -d /sys/kernel/debug/cma/*); do
    echo --- $area
    for name in count used bitmap; do
        echo --- $name
        cat $area/$name
    done
done
title 'Pixel CMA stat'
each_file '/sys/kernel/pixel_stat/mm/cma/*'
title 'Pixel Trace'
cat /sys/kernel/tracing/instances/pixel/trace
