-- Asks tenant-auth whether a request is admitted: an action for http-request rules of HAProxy 2.6 or later, which has no
-- forward authentication of its own.
--
--     http-request lua.forward_auth "scopes=orders:read&audience=orders"
--
-- The question goes through `listen tenant_auth` of haproxy.cfg, which has the addresses, the timeout and the connections:
-- by itself, this HTTP client repeats a slow question three times.

local URL = "http://tenant-auth/forward-auth?"
local LISTENER = "abns@tenant_auth"
local TOKEN = os.getenv("TENANT_AUTH_TOKEN")

-- What the service reads of the client's request. Its other headers stay here.
local FORWARDED = { "authorization", "x-api-key", "origin", "access-control-request-method", "x-request-id" }
-- What the client gets of an answer that does not admit the request.
local RETURNED = { "www-authenticate", "retry-after", "cache-control" }

local PROBLEM = "application/problem+json"
local UNDECIDED = '{"type":"about:blank","title":"Service Unavailable","status":503,'
    .. '"detail":"The key could not be checked. Repeat the request.","code":"UNDECIDED"}'

-- HAProxy counts the values of a header from 0, its client from 1.
local function values_of(headers, name)
    local values = {}
    for _, value in pairs(headers[name] or {}) do
        values[#values + 1] = value
    end
    return values
end

local function ask(txn, query)
    local received = txn.http:req_get_headers()
    local headers = {
        ["x-tenant-auth-token"] = { TOKEN },
        ["x-forwarded-for"] = { txn.f:src() },
        ["x-forwarded-method"] = { txn.f:method() },
    }
    for _, name in ipairs(FORWARDED) do
        headers[name] = values_of(received, name)
    end
    return core.httpclient():get({ url = URL .. query, dst = LISTENER, headers = headers })
end

local function set_identity(txn, headers)
    for name in pairs(headers) do
        local value = values_of(headers, name)[1]
        if name:match("^x%-tenant%-") and value ~= "" then
            txn.http:req_set_header(name, value)
        end
    end
end

local function refuse(txn, status, headers, body)
    local reply = txn:reply({ status = status })
    reply:add_header("content-type", PROBLEM)
    for _, name in ipairs(RETURNED) do
        for _, value in ipairs(values_of(headers, name)) do
            reply:add_header(name, value)
        end
    end
    reply:set_body(body)
    txn:done(reply)
end

core.register_action("forward_auth", { "http-req" }, function(txn, query)
    local answer = ask(txn, query)
    local headers = answer.headers or {}
    if answer.status == 200 then
        set_identity(txn, headers)
    elseif values_of(headers, "content-type")[1] == PROBLEM then
        refuse(txn, answer.status, headers, answer.body)
    else
        -- No answer in time, or none of the service: the key may be good.
        refuse(txn, 503, { ["retry-after"] = { "1" }, ["cache-control"] = { "no-store" } }, UNDECIDED)
    end
end, 1)
