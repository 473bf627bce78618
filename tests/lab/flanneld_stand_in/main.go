// Command flanneld is a stand-in for flannel's daemon, for the lab alone: it speaks flannel's
// protocol with etcd (v2), and makes the real devices and routes, so that everything around it is
// real. It knows the backends vxlan and host-gw.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

const (
	version = "0.0.standin"
	ttl     = 24 * time.Hour
	margin  = time.Hour
)

var (
	endpoints   = flag.String("etcd-endpoints", "http://127.0.0.1:4001,http://127.0.0.1:2379", "etcd's URLs, with commas between")
	prefix      = flag.String("etcd-prefix", "/coreos.com/network", "the key under which all others are")
	caFile      = flag.String("etcd-cafile", "", "whose certificates etcd may have")
	certFile    = flag.String("etcd-certfile", "", "the certificate to ask etcd with")
	keyFile     = flag.String("etcd-keyfile", "", "its key")
	ifaceName   = flag.String("iface", "", "the interface, or its address, that packets leave by")
	ipMasq      = flag.Bool("ip-masq", false, "masquerade what leaves the network")
	subnetFile  = flag.String("subnet-file", "/run/flannel/subnet.env", "where the subnet is written")
	showVersion = flag.Bool("version", false, "print the version and exit")
)

type config struct {
	Network   string
	SubnetLen int
	SubnetMin string
	SubnetMax string
	Backend   struct {
		Type string
		VNI  int
		Port int
	}
}

type backendData struct {
	VtepMAC string
}

type lease struct {
	PublicIP    string
	BackendType string
	BackendData *backendData `json:",omitempty"`
	// When it was last set or renewed.
	index uint64
}

type node struct {
	Key           string
	Value         string
	ModifiedIndex uint64
	Nodes         []node
}

type answer struct {
	Node      node
	ErrorCode int
	Message   string
	index     string
}

// daemon is what this host knows of itself and of the network.
type daemon struct {
	config  config
	network *net.IPNet
	iface   *net.Interface
	address net.IP
	device  string
	own     lease
	subnet  *net.IPNet
	peers   map[string]lease
}

func main() {
	flag.Parse()
	if *showVersion {
		fmt.Println(version)
		return
	}
	log.SetFlags(0)
	rand.Seed(time.Now().UnixNano())
	d := &daemon{peers: map[string]lease{}}
	d.findInterface()
	d.readConfig()
	d.makeDevice()
	d.acquire()
	d.address32()
	d.masquerade()
	d.writeSubnetFile()
	notify("READY=1")
	go d.renew()
	d.watch()
}

// credentials are those that etcd is asked with, if there are any.
func credentials() *tls.Config {
	found := &tls.Config{}
	if *caFile != "" {
		text, err := os.ReadFile(*caFile)
		must(err)
		found.RootCAs = x509.NewCertPool()
		found.RootCAs.AppendCertsFromPEM(text)
	}
	if *certFile != "" {
		pair, err := tls.LoadX509KeyPair(*certFile, *keyFile)
		must(err)
		found.Certificates = []tls.Certificate{pair}
	}
	return found
}

// etcd asks the first endpoint that answers.
func etcd(method, key, query string, form url.Values, patience time.Duration) (*answer, error) {
	var last error
	for _, endpoint := range strings.Split(*endpoints, ",") {
		address := strings.TrimRight(endpoint, "/") + "/v2/keys" + key + "?" + query
		request, err := http.NewRequest(method, address, strings.NewReader(form.Encode()))
		if err != nil {
			return nil, err
		}
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		client := &http.Client{Timeout: patience, Transport: &http.Transport{
			TLSClientConfig: credentials(), DisableKeepAlives: true,
		}}
		response, err := client.Do(request)
		if err != nil {
			last = err
			continue
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			last = err
			continue
		}
		found := answer{index: response.Header.Get("X-Etcd-Index")}
		if err := json.Unmarshal(body, &found); err != nil {
			last = fmt.Errorf("%s: %s", address, response.Status)
			continue
		}
		return &found, nil
	}
	return nil, last
}

func (d *daemon) findInterface() {
	interfaces, err := net.Interfaces()
	must(err)
	wanted := *ifaceName
	if wanted == "" {
		shown := output("ip", "-4", "route", "show", "default")
		match := regexp.MustCompile(`dev (\S+)`).FindStringSubmatch(shown)
		if match == nil {
			log.Fatal("there is no default route: choose an interface with -iface")
		}
		wanted = match[1]
	}
	for i := range interfaces {
		addresses, _ := interfaces[i].Addrs()
		for _, address := range addresses {
			ip, _, _ := net.ParseCIDR(address.String())
			if ip.To4() == nil || (interfaces[i].Name != wanted && ip.String() != wanted) {
				continue
			}
			d.iface, d.address = &interfaces[i], ip.To4()
			log.Printf("using %s with the address %s", d.iface.Name, d.address)
			return
		}
	}
	log.Fatalf("no interface with an IPv4 address is, or has, %s", wanted)
}

func (d *daemon) readConfig() {
	for {
		found, err := etcd("GET", *prefix+"/config", "", nil, 5*time.Second)
		if err == nil && found.ErrorCode != 0 {
			err = fmt.Errorf("%s: %s", found.Message, *prefix+"/config")
		}
		if err == nil {
			must(json.Unmarshal([]byte(found.Node.Value), &d.config))
			break
		}
		log.Printf("couldn't fetch the network's configuration: %v; trying again", err)
		time.Sleep(time.Second)
	}
	c := &d.config
	var err error
	_, d.network, err = net.ParseCIDR(c.Network)
	must(err)
	size, _ := d.network.Mask.Size()
	if c.SubnetLen == 0 {
		c.SubnetLen = 24
		if size > 22 {
			c.SubnetLen = size + 2
		}
	}
	if c.SubnetLen > 30 || c.SubnetLen < size+2 {
		log.Fatalf("SubnetLen %d does not fit into %s", c.SubnetLen, c.Network)
	}
	switch c.Backend.Type {
	case "vxlan":
		if c.Backend.VNI == 0 {
			c.Backend.VNI = 1
		}
		if c.Backend.Port == 0 {
			c.Backend.Port = 8472
		}
	case "host-gw":
	default:
		log.Fatalf("the stand-in has no backend %q", c.Backend.Type)
	}
}

func (d *daemon) mtu() int {
	if d.config.Backend.Type == "vxlan" {
		return d.iface.MTU - 50
	}
	return d.iface.MTU
}

func (d *daemon) makeDevice() {
	d.own = lease{PublicIP: d.address.String(), BackendType: d.config.Backend.Type}
	if d.own.BackendType != "vxlan" {
		return
	}
	d.device = fmt.Sprintf("flannel.%d", d.config.Backend.VNI)
	shown := output("ip", "-d", "link", "show", "dev", d.device)
	like := fmt.Sprintf(" id %d local %s dev %s ", d.config.Backend.VNI, d.address, d.iface.Name)
	if !strings.Contains(shown, like) || !strings.Contains(shown, fmt.Sprintf("dstport %d ", d.config.Backend.Port)) {
		output("ip", "link", "delete", "dev", d.device)
		run("ip", "link", "add", d.device, "type", "vxlan",
			"id", fmt.Sprint(d.config.Backend.VNI), "local", d.address.String(),
			"dev", d.iface.Name, "dstport", fmt.Sprint(d.config.Backend.Port), "nolearning")
	}
	run("ip", "link", "set", "dev", d.device, "mtu", fmt.Sprint(d.mtu()), "up")
	device, err := net.InterfaceByName(d.device)
	must(err)
	d.own.BackendData = &backendData{VtepMAC: device.HardwareAddr.String()}
}

// leases gives those in etcd by their subnets, and the index to wait from.
func leases() (map[string]lease, string, error) {
	found, err := etcd("GET", *prefix+"/subnets", "recursive=true", nil, 10*time.Second)
	if err != nil {
		return nil, "", err
	}
	all := map[string]lease{}
	for _, item := range found.Node.Nodes {
		var one lease
		name := strings.Replace(filepath.Base(item.Key), "-", "/", 1)
		if _, _, err := net.ParseCIDR(name); err == nil && json.Unmarshal([]byte(item.Value), &one) == nil {
			one.index = item.ModifiedIndex
			all[name] = one
		}
	}
	return all, found.index, nil
}

func (d *daemon) acquire() {
	for {
		all, _, err := leases()
		if err == nil {
			subnet, exists := d.choose(all)
			if err = d.put(subnet, fmt.Sprintf("prevExist=%t", exists)); err == nil {
				d.subnet = subnet
				log.Printf("acquired the lease of %s", subnet)
				return
			}
		}
		log.Printf("couldn't acquire a lease: %v; trying again", err)
		time.Sleep(time.Second)
	}
}

// choose takes this host's lease where there is one, and else a free subnet, never the last one.
func (d *daemon) choose(all map[string]lease) (*net.IPNet, bool) {
	for name, one := range all {
		_, subnet, _ := net.ParseCIDR(name)
		size, _ := subnet.Mask.Size()
		if one.PublicIP == d.own.PublicIP && d.network.Contains(subnet.IP) && size == d.config.SubnetLen {
			return subnet, true
		}
	}
	last, _ := os.ReadFile(*subnetFile)
	var free []*net.IPNet
	first, end, step := d.subnetRange()
	for start := first; start <= end; start += step {
		subnet := &net.IPNet{IP: fromNumber(start), Mask: net.CIDRMask(d.config.SubnetLen, 32)}
		_, taken := all[subnet.String()]
		if !taken && !strings.Contains(string(last), "FLANNEL_SUBNET="+gateway(subnet)+"\n") {
			free = append(free, subnet)
		}
	}
	if len(free) == 0 {
		log.Fatalf("%s has no free subnet", d.config.Network)
	}
	return free[rand.Intn(len(free))], false
}

func (d *daemon) subnetRange() (first, end, step uint32) {
	size, _ := d.network.Mask.Size()
	step = uint32(1) << (32 - d.config.SubnetLen)
	base := toNumber(d.network.IP)
	// The first subnet would share its address with the network.
	first, end = base+step, base+uint32(1)<<(32-size)-step
	if ip := net.ParseIP(d.config.SubnetMin); ip != nil {
		first = toNumber(ip)
	}
	if ip := net.ParseIP(d.config.SubnetMax); ip != nil {
		end = toNumber(ip)
	}
	return first, end, step
}

func (d *daemon) put(subnet *net.IPNet, query string) error {
	value, err := json.Marshal(d.own)
	must(err)
	form := url.Values{"value": {string(value)}, "ttl": {fmt.Sprint(int(ttl.Seconds()))}}
	found, err := etcd("PUT", *prefix+"/subnets/"+keyOf(subnet), query, form, 10*time.Second)
	if err == nil && found.ErrorCode != 0 {
		err = fmt.Errorf("%s", found.Message)
	}
	return err
}

func (d *daemon) renew() {
	for {
		time.Sleep(ttl - margin)
		for d.put(d.subnet, "prevExist=true") != nil {
			time.Sleep(time.Minute)
		}
	}
}

// watch keeps the entries of the other hosts, and ends when this host's lease is gone.
func (d *daemon) watch() {
	for {
		all, index, err := leases()
		if err != nil {
			log.Printf("couldn't read the leases: %v", err)
			time.Sleep(time.Second)
			continue
		}
		if one, there := all[d.subnet.String()]; !there || one.PublicIP != d.own.PublicIP {
			log.Fatalf("the lease of %s has been revoked", d.subnet)
		}
		delete(all, d.subnet.String())
		for name, one := range d.peers {
			if other, there := all[name]; !there || !same(other, one) {
				d.setPeer(name, one, false)
				delete(d.peers, name)
			}
		}
		for name, one := range all {
			// One that is renewed is set again: a lease that went may have had the same device.
			if known := d.peers[name]; known.index != one.index && one.BackendType == d.own.BackendType {
				d.setPeer(name, one, true)
				d.peers[name] = one
			}
		}
		var from uint64
		fmt.Sscan(index, &from)
		query := fmt.Sprintf("wait=true&recursive=true&waitIndex=%d", from+1)
		if _, err := etcd("GET", *prefix+"/subnets", query, nil, time.Minute); err != nil {
			time.Sleep(100 * time.Millisecond)
		}
	}
}

func same(one, other lease) bool {
	first, _ := json.Marshal(one)
	second, _ := json.Marshal(other)
	return string(first) == string(second)
}

func (d *daemon) setPeer(name string, peer lease, present bool) {
	_, subnet, _ := net.ParseCIDR(name)
	log.Printf("host %s has %s: %t", peer.PublicIP, name, present)
	if d.device == "" {
		verb := map[bool]string{true: "replace", false: "delete"}[present]
		output("ip", "route", verb, name, "via", peer.PublicIP, "dev", d.iface.Name)
		return
	}
	if peer.BackendData == nil {
		return
	}
	via, mac := subnet.IP.String(), peer.BackendData.VtepMAC
	if !present {
		output("ip", "route", "delete", name, "dev", d.device)
		output("ip", "neigh", "delete", via, "dev", d.device)
		output("bridge", "fdb", "delete", mac, "dev", d.device, "dst", peer.PublicIP)
		return
	}
	run("ip", "neigh", "replace", via, "lladdr", mac, "dev", d.device, "nud", "permanent")
	run("bridge", "fdb", "replace", mac, "dev", d.device, "dst", peer.PublicIP, "self", "permanent")
	run("ip", "route", "replace", name, "via", via, "dev", d.device, "onlink")
}

// address32 gives the device the subnet's own address and no other.
func (d *daemon) address32() {
	if d.device == "" {
		return
	}
	wanted := d.subnet.IP.String() + "/32"
	for _, word := range strings.Fields(output("ip", "-4", "-o", "address", "show", "dev", d.device)) {
		if strings.Contains(word, "/") && word != wanted {
			output("ip", "address", "delete", word, "dev", d.device)
		}
	}
	// Routes of an earlier run go with the leases that they were for.
	output("ip", "route", "flush", "dev", d.device)
	output("ip", "neigh", "flush", "dev", d.device, "nud", "permanent")
	run("ip", "address", "replace", wanted, "dev", d.device)
}

func (d *daemon) masquerade() {
	if !*ipMasq {
		return
	}
	for _, rule := range [][]string{
		{"-s", d.config.Network, "-d", d.config.Network, "-j", "RETURN"},
		{"-s", d.config.Network, "!", "-d", "224.0.0.0/4", "-j", "MASQUERADE"},
	} {
		words := append([]string{"-w", "-t", "nat", "-C", "POSTROUTING"}, rule...)
		if exec.Command("iptables", words...).Run() != nil {
			words[3] = "-A"
			run("iptables", words...)
		}
	}
}

func (d *daemon) writeSubnetFile() {
	text := fmt.Sprintf("FLANNEL_NETWORK=%s\nFLANNEL_SUBNET=%s\nFLANNEL_MTU=%d\nFLANNEL_IPMASQ=%t\n",
		d.config.Network, gateway(d.subnet), d.mtu(), *ipMasq)
	must(os.MkdirAll(filepath.Dir(*subnetFile), 0o755))
	must(os.WriteFile(*subnetFile+".new", []byte(text), 0o644))
	must(os.Rename(*subnetFile+".new", *subnetFile))
}

func notify(state string) {
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return
	}
	connection, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	must(err)
	defer connection.Close()
	_, err = connection.Write([]byte(state))
	must(err)
}

func keyOf(subnet *net.IPNet) string { return strings.Replace(subnet.String(), "/", "-", 1) }

// gateway is the first address of a subnet with its length, which docker's bridge gets.
func gateway(subnet *net.IPNet) string {
	size, _ := subnet.Mask.Size()
	return fmt.Sprintf("%s/%d", fromNumber(toNumber(subnet.IP)+1), size)
}

func toNumber(ip net.IP) uint32 {
	four := ip.To4()
	return uint32(four[0])<<24 | uint32(four[1])<<16 | uint32(four[2])<<8 | uint32(four[3])
}

func fromNumber(number uint32) net.IP {
	return net.IPv4(byte(number>>24), byte(number>>16), byte(number>>8), byte(number)).To4()
}

func run(name string, words ...string) {
	if shown, err := exec.Command(name, words...).CombinedOutput(); err != nil {
		log.Fatalf("%s %s: %s", name, strings.Join(words, " "), shown)
	}
}

func output(name string, words ...string) string {
	shown, _ := exec.Command(name, words...).Output()
	return string(shown)
}

func must(err error) {
	if err != nil {
		log.Output(2, err.Error())
		syscall.Exit(1)
	}
}
