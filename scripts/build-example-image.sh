#!/bin/sh
# Builds the example's image from Debian's busybox-static, without docker and without a registry.
#
#   scripts/build-example-image.sh OUTPUT.tar
#
# The archive holds docker.io/library/xebec-example:1 and :2, which differ in XEBEC_EXAMPLE_VERSION and in what they
# serve on port 8080 (/ and /cgi-bin/whoami). The same busybox gives the same archive, byte for byte.
set -eu

fail() {
    echo "build-example-image: $*" >&2
    exit 1
}

[ $# -eq 1 ] || fail "usage: $0 OUTPUT.tar"
output=$1
busybox=$(command -v busybox) || fail "busybox is not installed: apt-get install busybox-static"
if ldd "$busybox" >/dev/null 2>&1; then
    fail "$busybox needs shared libraries: apt-get install busybox-static"
fi
case $(uname -m) in
x86_64) architecture=amd64 ;;
aarch64) architecture=arm64 ;;
*) fail "no image for the processor $(uname -m)" ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 022

# Packs a folder so that only its content matters.
pack() {
    tar --create --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --format=ustar --directory "$1" --file "$2" .
}

digest() {
    sha256sum "$1" | cut -d ' ' -f 1
}

# The layer that both versions share: busybox under every name that it has.
root=$work/base
mkdir -p "$root/bin" "$root/etc" "$root/var/www/cgi-bin" "$root/root" "$root/proc" "$root/sys" "$root/dev"
mkdir -m 1777 "$root/tmp"
cp "$busybox" "$root/bin/busybox"
chmod 755 "$root/bin/busybox"
for applet in $("$busybox" --list); do
    [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
done
echo 'root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/false' >"$root/etc/passwd"
echo 'root:x:0:
nogroup:x:65534:' >"$root/etc/group"
cat >"$root/bin/serve" <<'SERVE'
#!/bin/sh
# Process 1 ends on a signal only if it asks for it, which httpd does not.
httpd -f -p "${PORT:-8080}" -h /var/www &
server=$!
trap 'kill "$server"; exit 0' TERM INT
wait "$server"
SERVE
cat >"$root/var/www/cgi-bin/whoami" <<'WHOAMI'
#!/bin/sh
printf 'Content-Type: text/plain\r\n\r\n'
echo "pod $(hostname) version $XEBEC_EXAMPLE_VERSION client $REMOTE_ADDR"
WHOAMI
chmod 755 "$root/bin/serve" "$root/var/www/cgi-bin/whoami"

archive=$work/archive
mkdir "$archive"
pack "$root" "$archive/base.tar"

manifest=
for version in 1 2; do
    layer=$work/version$version
    mkdir -p "$layer/var/www"
    echo "Hello from xebec-example, version $version" >"$layer/var/www/index.html"
    pack "$layer" "$archive/version$version.tar"
    config=$work/config.json
    printf '%s' "{\"architecture\":\"$architecture\",\"os\":\"linux\",\"created\":\"1970-01-01T00:00:00Z\",\
\"config\":{\"Env\":[\"PATH=/bin\",\"XEBEC_EXAMPLE_VERSION=$version\"],\"Cmd\":[\"/bin/serve\"],\
\"ExposedPorts\":{\"8080/tcp\":{}},\"WorkingDir\":\"/\"},\
\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:$(digest "$archive/base.tar")\",\
\"sha256:$(digest "$archive/version$version.tar")\"]},\
\"history\":[{\"created_by\":\"busybox\"},{\"created_by\":\"version $version\"}]}" >"$config"
    name=$(digest "$config").json
    mv "$config" "$archive/$name"
    manifest="$manifest${manifest:+,}{\"Config\":\"$name\",\
\"RepoTags\":[\"docker.io/library/xebec-example:$version\"],\"Layers\":[\"base.tar\",\"version$version.tar\"]}"
done
printf '[%s]' "$manifest" >"$archive/manifest.json"

# Complete before it gets its name: the agent imports what appears.
mkdir -p "$(dirname "$output")"
pack "$archive" "$output.part"
mv "$output.part" "$output"
