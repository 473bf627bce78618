# For scripts that build from an unpacked Debian source package of Kubernetes, without any network.
# Gives them $output, and has them stand in the source at its import path.
# usage: . debian-go.sh SOURCE VERSION OUTPUT
here=$(dirname "$(realpath "$0")")
source=$(realpath "$1")
version=$2
output=$(realpath "$3")

# The tree must stand at its import path: module mode would ask the network.
export GOPATH="$source/.go" GOCACHE="$source/.cache" GO111MODULE=off
# Names each package, so that the build can be seen to go on.
export GOFLAGS=-v
export HOME="$source/.home"
mkdir -p "$GOPATH/src/k8s.io" "$HOME"
ln -sfn "$source" "$GOPATH/src/k8s.io/kubernetes"
cd "$GOPATH/src/k8s.io/kubernetes"
sed -i -f "$here/reflect2.sed" vendor/github.com/modern-go/reflect2/unsafe_link.go \
    vendor/github.com/modern-go/reflect2/unsafe_map.go

# A source package knows no git, so it is told what it is.
minor=${version#v1.}
cat >.version <<EOF
KUBE_GIT_COMMIT=0000000000000000000000000000000000000000
KUBE_GIT_TREE_STATE=archive
KUBE_GIT_VERSION=$version
KUBE_GIT_MAJOR=1
KUBE_GIT_MINOR=${minor%%.*}
EOF
export KUBE_GIT_VERSION_FILE="$PWD/.version"

# Static throughout: the images hold one binary and no libc.
export KUBE_STATIC_OVERRIDES=kubelet CGO_ENABLED=0 GOLDFLAGS='-s -w'
export KUBE_BUILD_PLATFORMS="linux/$(dpkg --print-architecture)"
