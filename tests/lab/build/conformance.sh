#!/bin/sh
# Builds the conformance suite from an unpacked Debian source package, as kubernetes.sh builds
# Kubernetes, and the programs and files of its images.
# usage: conformance.sh SOURCE VERSION OUTPUT
set -eu
source=$(realpath "$1")
version=$2
output=$(realpath "$3")

export GOPATH="$source/.go" GOCACHE="$source/.cache" GO111MODULE=off
export GOFLAGS=-v
export HOME="$source/.home"
mkdir -p "$GOPATH/src/k8s.io" "$HOME"
ln -sfn "$source" "$GOPATH/src/k8s.io/kubernetes"
cd "$GOPATH/src/k8s.io/kubernetes"

minor=${version#v1.}
cat >.version <<EOF
KUBE_GIT_COMMIT=0000000000000000000000000000000000000000
KUBE_GIT_TREE_STATE=archive
KUBE_GIT_VERSION=$version
KUBE_GIT_MAJOR=1
KUBE_GIT_MINOR=${minor%%.*}
EOF
export KUBE_GIT_VERSION_FILE="$PWD/.version"

export CGO_ENABLED=0 GOLDFLAGS='-s -w'
export KUBE_BUILD_PLATFORMS="linux/$(dpkg --print-architecture)"
make WHAT='test/e2e/e2e.test vendor/github.com/onsi/ginkgo/ginkgo test/images/agnhost test/images/nonewprivs vendor/k8s.io/sample-apiserver'

for name in e2e.test ginkgo agnhost nonewprivs sample-apiserver; do
    install -m 755 "_output/bin/$name" "$output/$name"
done

# What Dockerfiles of test images add.
cp -R test/images/kitten/html "$output/kitten"
cp -R test/images/nautilus/html "$output/nautilus"
cp test/images/agnhost/porter/localhost.crt "$output/porter.crt"
cp test/images/agnhost/porter/localhost.key "$output/porter.key"
