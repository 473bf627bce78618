"""
The record on a host of what was there before us: the shell functions that keep it. What is written
is labelled, too.

`before` has a line for each thing that we changed, written before its first change and never again:
its kind, its name and how it was. `files` has what we replaced, by its own path. `wrote` has the
digest of what we wrote last to each path.
"""

from __future__ import annotations

PLACE = "/var/lib/pyinfra-kube/record"
# Whoever has it, has a cluster of ours.
MARK = "/srv/kubernetes/ca.crt"

# Kernel settings that kubelet and kube-proxy change by themselves, by path, and to what.
SET_BY_COMPONENTS = {
    "vm/overcommit_memory": "1",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
    "net/ipv4/conf/all/route_localnet": "1",
}

# What a cluster changes and never brings: it was there before a cluster without a record, too.
_OF_THE_HOST = (
    '"file /etc/fstab" | "file /etc/systemd/zram-generator.conf"* | '
    '"unit systemd-networkd.service" | "unit "*swap* | "unit zram-config.service"'
)

RECORDER = f"""\
record={PLACE}
recorded=
written=
if [ -e "$record" ]; then
  recorded=$(cat "$record/before")
  written=$(cat "$record/wrote" 2>/dev/null || :)
fi
known() {{
  case "
$recorded" in *"
$1	$2	"*) ;; *) return 1 ;; esac
}}
# Of a cluster that was built without a record, what stands at our paths is taken for ours.
taken_for_ours() {{
  [ -e "$record/late" ] || return 1
  case "$1 $2" in {_OF_THE_HOST}) return 1 ;; esac
}}
note() {{
  if known "$1" "$2"; then return; fi
  begin_record
  if taken_for_ours "$1" "$2" && [ "$3" != absent ]; then set -- "$1" "$2" late; fi
  printf '%s\\t%s\\t%s\\n' "$1" "$2" "$3" >> "$record/before"
  recorded="$recorded
$1	$2	$3"
}}
# Where SELinux is on, the place of a file decides its label, not where it comes from.
label() {{
  if [ ! -e /sys/fs/selinux/enforce ] || ! command -v restorecon >/dev/null; then return; fi
  restorecon -F "$1" || :
}}
begin_record() {{
  if [ -e "$record" ]; then return; fi
  (umask 077; mkdir -p "$record.new/files")
  : > "$record.new/before"
  if [ -e {MARK} ]; then : > "$record.new/late"; else
    for key in {" ".join(SET_BY_COMPONENTS)}; do
      if [ -r "/proc/sys/$key" ]; then
        printf 'sysctl\t%s\t%s\n' "$(echo "$key" | tr / .)" "$(cat "/proc/sys/$key")"
      fi
    done > "$record.new/before"
  fi
  mv -T "$record.new" "$record"
}}
keep() {{
  if known file "$1"; then return; fi
  begin_record
  if [ -d "$1" ] && [ ! -L "$1" ]; then
    note file "$1" "$(stat -c 'folder %a %u:%g' "$1")"
  elif [ -L "$1" ] || [ -e "$1" ]; then
    if ! taken_for_ours file "$1"; then
      mkdir -p "$record/files${{1%/*}}"
      cp -a "$1" "$record/files$1.part"
      mv -fT "$record/files$1.part" "$record/files$1"
    fi
    note file "$1" kept
  else
    if [ ! -e "${{1%/*}}/" ]; then keep "${{1%/*}}"; fi
    note file "$1" absent
  fi
}}
wrote() {{
  case "$written
" in
    *"$2  $1
"*) return ;;
    *"  $1
"*)
      printf '%s\n' "$written" | awk -v path="$1" 'NF && substr($0, 67) != path' \\
        > "$record/wrote.new"
      mv -fT "$record/wrote.new" "$record/wrote"
      ;;
  esac
  printf '%s  %s\n' "$2" "$1" >> "$record/wrote"
  written="$written
$2  $1"
}}
"""
