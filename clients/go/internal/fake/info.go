package fake

import (
	"context"
	"sync"

	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

type info struct {
	tenantauthv1.UnimplementedInfoServiceServer

	infoMu        sync.Mutex
	principalKeys *tenantauthv1.GetPrincipalKeysResponse
}

// GetServerInfo returns a fixed version.
func (i *info) GetServerInfo(context.Context, *tenantauthv1.GetServerInfoRequest) (*tenantauthv1.GetServerInfoResponse, error) {
	return &tenantauthv1.GetServerInfoResponse{Version: "0.0.0-fake"}, nil
}

// PutPrincipalKeys sets the issuer of principal tokens and its JSON Web Key Set. By default, no tokens are signed.
func (i *info) PutPrincipalKeys(issuer, jwks string) {
	i.infoMu.Lock()
	defer i.infoMu.Unlock()
	i.principalKeys = &tenantauthv1.GetPrincipalKeysResponse{Issuer: issuer, Jwks: jwks}
}

// GetPrincipalKeys returns the keys that were set.
func (i *info) GetPrincipalKeys(context.Context, *tenantauthv1.GetPrincipalKeysRequest) (*tenantauthv1.GetPrincipalKeysResponse, error) {
	i.infoMu.Lock()
	defer i.infoMu.Unlock()
	if i.principalKeys == nil {
		return &tenantauthv1.GetPrincipalKeysResponse{Jwks: `{"keys":[]}`}, nil
	}
	return i.principalKeys, nil
}
