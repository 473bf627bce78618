// Light hosts: many SSH servers in one program, which answer commands as a real host did.
//
//	light-hosts RECORDING
//
// What was recorded is JSON: hosts, and by role and digest of a command the answers, in the order in
// which a real host gave them. What differs from host to host and from run to run, a folder and the
// mark of a round trip, stands there as a placeholder.
package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"regexp"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
)

type host struct{ Address, Folder, Role string }

// A part of what was printed; round trips encode theirs.
type part struct {
	Text    string
	Encoded bool
}

type answer struct {
	Parts  []part
	Said   string
	Status uint32
}

type recording struct {
	Hosts  []host
	Folder string
	Mark   string
	Roles  map[string]map[string][]answer
}

// As the recorder knows them.
var mark = regexp.MustCompile(`##pyinfra-kube-[0-9a-f]{16}`)

func main() {
	data, err := os.ReadFile(os.Args[1])
	fatal(err)
	var all recording
	fatal(json.Unmarshal(data, &all))
	_, key, err := ed25519.GenerateKey(rand.Reader)
	fatal(err)
	signer, err := ssh.NewSignerFromKey(key)
	fatal(err)
	anyone := func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil }
	config := &ssh.ServerConfig{PublicKeyCallback: anyone}
	config.AddHostKey(signer)
	for _, one := range all.Hosts {
		listener, err := net.Listen("tcp", one.Address)
		fatal(err)
		go serve(listener, config, one, &all)
	}
	// Who started us reads the key, and knows that all of them listen.
	fmt.Print(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
	os.Stdout.Close()
	select {}
}

func fatal(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func serve(listener net.Listener, config *ssh.ServerConfig, one host, all *recording) {
	for {
		connection, err := listener.Accept()
		fatal(err)
		go connected(connection, config, one, all)
	}
}

func connected(connection net.Conn, config *ssh.ServerConfig, one host, all *recording) {
	_, channels, requests, err := ssh.NewServerConn(connection, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	state := &session{one, all, map[string]int{}, sync.Mutex{}}
	for wanted := range channels {
		if wanted.ChannelType() != "session" {
			wanted.Reject(ssh.UnknownChannelType, "only sessions")
			continue
		}
		channel, requests, err := wanted.Accept()
		if err != nil {
			return
		}
		go state.run(channel, requests)
	}
}

// What one connection has asked so far.
type session struct {
	host  host
	all   *recording
	asked map[string]int
	lock  sync.Mutex
}

func (s *session) run(channel ssh.Channel, requests <-chan *ssh.Request) {
	for request := range requests {
		if request.Type != "exec" {
			request.Reply(false, nil)
			continue
		}
		var command struct{ Text string }
		ssh.Unmarshal(request.Payload, &command)
		request.Reply(true, nil)
		found, own := s.answer(command.Text)
		for _, one := range found.Parts {
			text := own.Replace(one.Text)
			if one.Encoded {
				text = base64.StdEncoding.EncodeToString([]byte(text)) + "\n"
			}
			fmt.Fprint(channel, text)
		}
		fmt.Fprint(channel.Stderr(), own.Replace(found.Said))
		status := ssh.Marshal(struct{ Status uint32 }{found.Status})
		channel.SendRequest("exit-status", false, status)
		channel.CloseWrite()
		// Who still ends its input does not find a closed socket.
		io.Copy(io.Discard, channel)
		channel.Close()
	}
}

// The next answer to a command, or the last; and what stands for its placeholders.
func (s *session) answer(command string) (answer, *strings.Replacer) {
	own := mark.FindString(command)
	words := strings.NewReplacer(s.all.Mark, own, s.all.Folder, s.host.Folder)
	plain := command
	if own != "" {
		plain = strings.ReplaceAll(plain, own, s.all.Mark)
	}
	plain = strings.ReplaceAll(plain, s.host.Folder, s.all.Folder)
	digest := sha256.Sum256([]byte(plain))
	answers := s.all.Roles[s.host.Role][hex.EncodeToString(digest[:])]
	if len(answers) == 0 {
		log.Printf("%s: not recorded for %q: %.3000s", s.host.Folder, s.host.Role, plain)
		return answer{Said: "not recorded\n", Status: 127}, words
	}
	s.lock.Lock()
	defer s.lock.Unlock()
	next := min(s.asked[plain], len(answers)-1)
	s.asked[plain]++
	return answers[next], words
}
