#!/bin/sh
# Builds Kubernetes from an unpacked Debian source package, without any network.
# usage: kubernetes.sh SOURCE VERSION OUTPUT
set -eu
. "$(dirname "$0")/debian-go.sh"
make WHAT='cmd/kube-apiserver cmd/kube-controller-manager cmd/kube-scheduler cmd/kubelet cmd/kube-proxy cmd/kubectl'

for name in kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl; do
    install -m 755 "$GOPATH/src/k8s.io/kubernetes/_output/bin/$name" "$output/$name"
done

pause=build/pause/linux/pause.c
[ -e "$pause" ] || pause=build/pause/pause.c
gcc -Os -Wall -Werror -static -DVERSION="$version" -o "$output/pause" "$pause"
strip "$output/pause"
