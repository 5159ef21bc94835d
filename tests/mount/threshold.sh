# Tests page_pinner's threshold on a device. Exits with status 0 on success, otherwise with 1 and the reason.
pinner=/sys/kernel/debug/page_pinner

fail() {
    echo "FAIL: $*" >&2
    exit 1
}
set_to() { echo "$1" > $pinner/threshold; }
is() { [ "$(cat $pinner/threshold)" = "$1" ] || fail "threshold is $(cat $pinner/threshold), not $1"; }
records() { cat $pinner/longterm_pinner; } # cat: the buffer of other readers, such as busybox's awk, is too small
shortest() { records | awk '/^Page pinned/ { print $4 }' | sort -n | head -n 1; }
wait_for_records() {
    tries=0
    until records | grep '^Page pinned' > /dev/null; do
        tries=$((tries + 1))
        [ $tries -lt 200 ] || fail "no records with a threshold of $1 us"
        sleep 0.1
    done
    [ "$(shortest)" -gt "$1" ] || fail "a record of $(shortest) us with a threshold of $1 us"
}

[ -d $pinner ] || fail "no directory $pinner"
is 300000
wait_for_records 300000
set_to 1000000 && is 1000000 || fail "cannot raise the threshold"
wait_for_records 1000000
set_to 0x100 && is 256 || fail "cannot lower the threshold"
wait_for_records 256
for bad in abc -1 '' '5 ' 1.5 99999999999999999999; do
    (set_to "$bad") 2>/dev/null && fail "'$bad' was accepted"
    is 256
done
sites=$(records | awk '
    /^Page pinned/ { frame = 0; next }
    /^ / { if (++frame == 8) { sub(/\+.*/, ""); sites[$1]++ } }
    END { for (site in sites) print sites[site], site }' | sort -rn)
[ -n "$sites" ] || fail "no call sites in the records"
echo "$sites"
