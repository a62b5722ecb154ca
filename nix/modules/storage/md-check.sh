# Have every md array that is idle compare its copies (md(4), SCRUBBING AND MISMATCHES). The kernel goes on by itself;
# what it finds stands in mismatch_cnt, and a disk that fails makes mdadm's monitor report.
found=0
for action in "${SYSFS:-/sys}"/block/md*/md/sync_action; do
  [ -e "$action" ] || continue
  found=1
  array=${action%/md/sync_action}
  array=${array##*/}
  read -r doing < "$action"
  if [ "$doing" = idle ]; then
    echo check > "$action"
    echo "$array: check begun"
  else
    echo "$array: is busy ($doing), not checked this time"
  fi
done
[ "$found" = 1 ] || echo "there is no md array with copies to compare"
