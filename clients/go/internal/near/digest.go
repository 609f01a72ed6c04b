package near

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"sync"
)

// Digest stands for a secret, and cannot be turned back into it.
type Digest [sha256.Size]byte

// Hasher makes digests under a secret of its own, so that a dump of the memory is no list to try keys against.
type Hasher struct {
	states sync.Pool
}

type hashState struct {
	mac hash.Hash
	// input is where the parts are joined: kept so that a lookup need not allocate, and wiped after each use.
	input []byte
	sum   []byte
}

// NewHasher draws a secret.
func NewHasher() *Hasher {
	// crypto/rand never fails: it ends the process instead.
	secret := make([]byte, sha256.Size)
	_, _ = rand.Read(secret)
	hasher := &Hasher{}
	hasher.states.New = func() any { return &hashState{mac: hmac.New(sha256.New, secret)} }
	return hasher
}

// Digest is HMAC-SHA-256 over the parts. Each is preceded by its length, so that no two lists run into one.
func (h *Hasher) Digest(parts ...string) (digest Digest) {
	state := h.states.Get().(*hashState)
	for _, part := range parts {
		state.input = binary.BigEndian.AppendUint64(state.input, uint64(len(part)))
		state.input = append(state.input, part...)
	}
	state.mac.Reset()
	state.mac.Write(state.input)
	state.sum = state.mac.Sum(state.sum[:0])
	copy(digest[:], state.sum)
	clear(state.input)
	state.input = state.input[:0]
	h.states.Put(state)
	return digest
}
