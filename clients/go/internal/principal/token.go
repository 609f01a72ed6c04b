package principal

import (
	"errors"

	"github.com/go-jose/go-jose/v4"
)

const (
	// maxTokenLen is the contract's maximum length of a token. Longer texts are not parsed.
	maxTokenLen = 4_096
	tokenType   = "principal+jwt"
)

// Token is a token whose signature has not been verified yet.
type Token struct {
	// KeyID is the id of the key that the token claims to be signed with.
	KeyID string

	signed    *jose.JSONWebSignature
	algorithm string
}

// Parse reads the header of a token. Neither its errors nor those of [Token.Claims] contain any part of the token, so
// they replace the errors of the library, which quote it.
func Parse(token string) (Token, error) {
	if len(token) > maxTokenLen {
		return Token{}, errors.New("it is longer than 4,096 bytes")
	}
	signed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA})
	if err != nil {
		return Token{}, errors.New("it is not a JWT that is signed with ES256 or EdDSA")
	}
	header := signed.Signatures[0].Protected
	if header.ExtraHeaders[jose.HeaderType] != tokenType {
		return Token{}, errors.New("its type is not " + tokenType)
	}
	if header.KeyID == "" {
		return Token{}, errors.New("it does not name its key")
	}
	return Token{KeyID: header.KeyID, signed: signed, algorithm: header.Algorithm}, nil
}

// Claims verifies the signature and returns the claims.
func (t Token) Claims(key Key) (Claims, error) {
	// The key decides about the algorithm. What the token says is only compared.
	if t.algorithm != string(key.algorithm) {
		return Claims{}, errors.New("its algorithm is not that of its key")
	}
	payload, err := t.signed.Verify(key.public)
	if err != nil {
		return Claims{}, errors.New("its signature is not valid")
	}
	return parseClaims(payload)
}
