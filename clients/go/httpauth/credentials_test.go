package httpauth_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/httpauth"
)

func TestSameKeyInSeveralHeadersIsOneCredential(t *testing.T) {
	own, both := httpauth.WithHeader("X-API-Key"), httpauth.WithHeader("Authorization", "X-API-Key")
	for name, test := range map[string]struct {
		option        httpauth.Option
		authorization string
		apiKey        string
		status        int
		code          string
	}{
		"the same":                           {own, "Bearer ta_key", "ta_key", 200, ""},
		"the same, both read":                {both, "Bearer ta_key", "ta_key", 200, ""},
		"the same, with blanks":              {both, "bearer  ta_key ", " ta_key ", 200, ""},
		"two different":                      {own, "Bearer another", "ta_key", 400, "AMBIGUOUS_REQUEST"},
		"two different, both read":           {both, "Bearer another", "ta_key", 400, "AMBIGUOUS_REQUEST"},
		"two in one header":                  {both, "Bearer ta_key, Bearer another", "ta_key", 400, "AMBIGUOUS_REQUEST"},
		"only Authorization, both read":      {both, "Bearer ta_key", "", 200, ""},
		"only X-API-Key, both read":          {both, "", "ta_key", 200, ""},
		"no key in Authorization":            {own, "Basic dGE6a2V5", "ta_key", 200, ""},
		"no key in Authorization, both read": {both, "Basic dGE6a2V5", "ta_key", 200, ""},
		"only Authorization, not read":       {own, "Bearer ta_key", "", 401, "NO_CREDENTIALS"},
		"none, both read":                    {both, "", "", 401, "NO_CREDENTIALS"},
	} {
		service := &stub{validation: tenantauth.Validation{Verdict: tenantauth.Valid}}
		header := http.Header{"Authorization": {test.authorization}, "X-Api-Key": {test.apiKey}}
		if test.authorization == "" {
			header.Del("Authorization")
		}
		response := serve(middleware(t, service, test.option), header)
		var body problem
		if test.status != http.StatusOK {
			body = rejection(t, name, response)
		}
		if response.Code != test.status || body.Code != test.code {
			t.Errorf("%s: %d %s", name, response.Code, response.Body)
		}
		if wanted := test.status == http.StatusOK; wanted != (len(service.keys) == 1) || wanted && string(service.keys[0]) != "ta_key" {
			t.Errorf("%s: %d keys were validated", name, len(service.keys))
		}
	}
}

func TestRepeatedHeaderIsRejectedEvenWithTheSameKey(t *testing.T) {
	both := httpauth.WithHeader("Authorization", "X-API-Key")
	for name, header := range map[string]http.Header{
		"X-API-Key":                          {"X-Api-Key": {"ta_key", "ta_key"}},
		"X-API-Key, and in Authorization":    {"X-Api-Key": {"ta_key", "ta_key"}, "Authorization": {"Bearer ta_key"}},
		"Authorization, and in X-API-Key":    {"X-Api-Key": {"ta_key"}, "Authorization": {"Bearer ta_key", "Bearer ta_key"}},
		"X-API-Key, the second one is empty": {"X-Api-Key": {"ta_key", ""}},
	} {
		service := &stub{validation: tenantauth.Validation{Verdict: tenantauth.Valid}}
		response := serve(middleware(t, service, both), header)
		if body := rejection(t, name, response); response.Code != 400 || body.Code != "AMBIGUOUS_REQUEST" || service.keys != nil {
			t.Errorf("%s: %d %s", name, response.Code, response.Body)
		}
	}
}

func TestPreflightPassesUntouched(t *testing.T) {
	service := &stub{}
	for name, method := range map[string][]string{"a preflight": {"POST"}, "a preflight for no method": {""}} {
		request := httptest.NewRequest(http.MethodOptions, "/orders?a=b", strings.NewReader("body"))
		request.Header = http.Header{
			"Origin": {"https://app.example.com"}, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": {"authorization"},
		}
		var passed *http.Request
		recorder := httptest.NewRecorder()
		middleware(t, service).Require("orders:read")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			passed = r
			w.Header().Set("Access-Control-Allow-Origin", "https://app.example.com")
			w.WriteHeader(http.StatusNoContent)
		})).ServeHTTP(recorder, request)
		if passed != request || recorder.Code != http.StatusNoContent || len(recorder.Header()) != 1 || service.keys != nil {
			t.Errorf("%s: %d %v", name, recorder.Code, recorder.Header())
		}
	}
	for name, request := range map[string]*http.Request{
		"without a requested method": {Method: http.MethodOptions, Header: http.Header{"Origin": {"https://app.example.com"}}},
		"without an origin":          {Method: http.MethodOptions, Header: http.Header{"Access-Control-Request-Method": {"POST"}}},
		"with another method":        {Method: http.MethodPost, Header: http.Header{"Access-Control-Request-Method": {"POST"}}},
	} {
		request.URL = httptest.NewRequest(http.MethodGet, "/orders", nil).URL
		if response := answer(middleware(t, service), request); response.Code != http.StatusUnauthorized {
			t.Errorf("%s: %d", name, response.Code)
		}
	}
}
