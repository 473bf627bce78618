#!/bin/sh
# Builds the conformance suite from an unpacked Debian source package, and what its images have.
# usage: conformance.sh SOURCE VERSION OUTPUT
set -eu
. "$(dirname "$0")/debian-go.sh"
make WHAT='test/e2e/e2e.test vendor/github.com/onsi/ginkgo/ginkgo test/images/agnhost test/images/nonewprivs vendor/k8s.io/sample-apiserver'

for name in e2e.test ginkgo agnhost nonewprivs sample-apiserver; do
    install -m 755 "_output/bin/$name" "$output/$name"
done

# What Dockerfiles of test images add.
cp -R test/images/kitten/html "$output/kitten"
cp -R test/images/nautilus/html "$output/nautilus"
cp test/images/agnhost/porter/localhost.crt "$output/porter.crt"
cp test/images/agnhost/porter/localhost.key "$output/porter.key"
