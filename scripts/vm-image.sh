#!/bin/bash
# Builds what QEMU boots for the VM tests: OUT/vmlinuz, the stock Debian kernel,
# and OUT/initrd, a minimal root with the files of TREE laid over it.
#
#   usage: scripts/vm-image.sh TREE OUT
#
# The kernel package is downloaded and unpacked, never installed. Kernel and root
# are cached in .cache/vm under a name made of everything that went into them.
# Needs the packages of scripts/vm-packages.txt; no privilege.
set -euo pipefail
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"

# The cloud flavour: a third of the size of the other one, LZ4 instead of XZ
# (seconds under emulation), and every netfilter module is there.
meta=linux-image-cloud-amd64
# What the tests and the ruleset may ask for. The kernel loads modules by itself
# as on a real machine, so whole directories: a new nft statement needs no edit.
modules='net/(netfilter|ipv[46]|sched|bridge)/|drivers/net/(veth|dummy|ifb|tun)\.ko'
# A shell of its own: busybox's prefers its built-in ip to the program.
programs='sh nft ip tc ss'

die() { echo "vm-image: $*" >&2; exit 1; }

# kernel_package prints "NAME VERSION" of the kernel that the metapackage stands for.
kernel_package() {
  local name
  name=$(apt-cache depends "$meta" 2>/dev/null | awk '$1 == "Depends:" && /linux-image/ { print $2; exit }')
  [ -n "$name" ] || die "package $meta is unknown to apt: run apt-get update (Debian 12 or later, amd64)"
  apt-cache show --no-all-versions "$name" | awk '/^Version:/ { print "'"$name"'", $2 }'
}

# unpack_kernel PACKAGE VERSION DIR downloads and unpacks the kernel package.
unpack_kernel() {
  mkdir "$3"
  (cd "$3" && apt-get -qq -o APT::Sandbox::User=root download "$1=$2" && dpkg-deb -x ./*.deb .) ||
    die "cannot download $1=$2: run apt-get update"
}

# copy_modules KERNELDIR RELEASE ROOT copies the chosen modules and what they depend on.
copy_modules() {
  local from=$1/lib/modules/$2 to=$3/lib/modules/$2
  depmod -b "$1" "$2"
  mkdir -p "$to"
  cp "$from"/modules.{order,builtin,builtin.modinfo} "$to"
  (cd "$from" && grep -E "^kernel/($modules)" modules.dep | tr -d : | tr ' ' '\n' | sort -u | xargs cp --parents -t "$to")
  depmod -b "$3" "$2"
}

# copy_programs ROOT copies busybox under all its names, and programs with their libraries.
copy_programs() {
  local p file
  mkdir -p "$1"/{bin,sbin,usr,etc,proc,sys,dev,run,tmp,root}
  ln -s ../bin ../sbin "$1/usr"
  cp "$(command -v busybox)" "$1/bin/busybox"
  for p in $("$1/bin/busybox" --list); do [ -e "$1/bin/$p" ] || ln -s busybox "$1/bin/$p"; done
  ln -s ../bin/busybox "$1/sbin/modprobe" # /proc/sys/kernel/modprobe
  for p in $programs; do
    file=$(command -v "$p")
    cp --remove-destination "$file" "$1/bin/$p"
    ldd "$file" | grep -o '/[^ ]*' | xargs cp -Lu --parents -t "$1"
  done
  cp /etc/protocols /etc/services "$1/etc"
}

# pack DIR writes the directory as an initramfs, owned by root.
pack() { (cd "$1" && find . -mindepth 1 | cpio --quiet -o -H newc -R 0:0); }

# build_base PACKAGE VERSION DIR makes DIR/vmlinuz and DIR/root.cpio.
build_base() {
  local release=${1#linux-image-}
  unpack_kernel "$1" "$2" "$3/kernel"
  mkdir "$3/root"
  copy_programs "$3/root"
  copy_modules "$3/kernel" "$release" "$3/root"
  install -m 755 "$here/vm-init.sh" "$3/root/init"
  cp "$3/kernel/boot/vmlinuz-$release" "$3/vmlinuz"
  pack "$3/root" >"$3/root.cpio"
  rm -r "$3/kernel" "$3/root"
}

if [ $# != 2 ] || [ ! -d "$1" ]; then die "usage: vm-image.sh TREE OUT"; fi
here=$(cd "$(dirname "$0")" && pwd)
cache=$here/../.cache/vm
for p in busybox cpio depmod apt-cache $programs; do
  command -v "$p" >/dev/null || die "$p is missing: apt-get install $(tr '\n' ' ' <"$here/vm-packages.txt")"
done
kernel=$(kernel_package)
read -r package version <<<"$kernel"
key=$( { echo "$package $version"; cat "$here/vm-image.sh" "$here/vm-init.sh"
         dpkg-query -W busybox-static nftables iproute2; } | sha256sum | cut -c1-12)
base=$cache/$package-$key
if [ ! -d "$base" ]; then
  mkdir -p "$cache"
  work=$(mktemp -d "$cache/new.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  build_base "$package" "$version" "$work"
  chmod 755 "$work"
  mv -T "$work" "$base" 2>/dev/null || [ -d "$base" ] # another run may have been first
fi
touch "$base"
find "$cache" -mindepth 1 -maxdepth 1 -mtime +7 -exec rm -rf {} + # what nobody used for a week
mkdir -p "$2"
cp "$base/vmlinuz" "$2/vmlinuz"
{ cat "$base/root.cpio"; pack "$1"; } >"$2/initrd" # the kernel unpacks archives one after the other
