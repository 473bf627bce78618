#!/bin/sh
# Writes docker's network options for the subnet that flanneld got.
# usage: mk-docker-opts.sh [-f SUBNET_FILE] [-d DOCKER_FILE] [-i] [-c] [-m] [-k VARIABLE]
#   -i  each option in a variable of its own only   -c  all in one only   -m  leave out --ip-masq
set -eu
subnet_file=/run/flannel/subnet.env docker_file=/run/docker_opts.env variable=DOCKER_OPTS
each=true all=true masq=true
while getopts f:d:icmk: option; do
	case $option in
	f) subnet_file=$OPTARG ;;
	d) docker_file=$OPTARG ;;
	i) all=false ;;
	c) each=false ;;
	m) masq=false ;;
	k) variable=$OPTARG ;;
	*) exit 1 ;;
	esac
done
. "$subnet_file"
bip="--bip=$FLANNEL_SUBNET" mtu="--mtu=$FLANNEL_MTU" ip_masq=
if $masq; then
	# What flannel masquerades docker need not.
	case ${FLANNEL_IPMASQ:-false} in true) ip_masq=--ip-masq=false ;; *) ip_masq=--ip-masq=true ;; esac
fi
mkdir -p "$(dirname "$docker_file")"
{
	if $each; then
		echo "DOCKER_OPT_BIP=\"$bip\""
		[ -z "$ip_masq" ] || echo "DOCKER_OPT_IPMASQ=\"$ip_masq\""
		echo "DOCKER_OPT_MTU=\"$mtu\""
	fi
	! $all || echo "$variable=\" $bip $ip_masq $mtu\""
} >"$docker_file"
