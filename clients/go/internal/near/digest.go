package near

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"sync"
)

// Digest is the digest of a secret, and cannot be reversed.
type Digest [sha256.Size]byte

// Hasher computes digests with a random secret, so that a memory dump cannot be used to test candidate keys.
type Hasher struct {
	states sync.Pool
}

type hashState struct {
	mac hash.Hash
	// input is the buffer in which the parts are joined. It is reused so that a lookup need not allocate, and wiped
	// after each use.
	input []byte
	sum   []byte
}

// NewHasher creates a hasher with a random secret.
func NewHasher() *Hasher {
	// crypto/rand never returns an error: it ends the process instead.
	secret := make([]byte, sha256.Size)
	_, _ = rand.Read(secret)
	hasher := &Hasher{}
	hasher.states.New = func() any { return &hashState{mac: hmac.New(sha256.New, secret)} }
	return hasher
}

// Digest returns the HMAC-SHA-256 of the parts. Each part is preceded by its length, so that different lists have
// different digests.
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
