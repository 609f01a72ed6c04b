-- Refuses requests with trailers, which HAProxy 2.6 passes on as the client wrote them and has no rule to remove: an
-- application that adds them to the headers would read an identity there. Clients get 400.

-- What the end of a message without trailers counts for.
local END = 1

local trailers = { id = "refuse_trailers", flags = filter.FLT_CFG_FL_HTX }
trailers.__index = trailers

function trailers:new()
    return setmetatable({}, trailers)
end

function trailers:start_analyze(_, channel)
    if not channel:is_resp() then
        filter.register_data_filter(self, channel)
    end
end

-- The input is the data and what comes after it.
function trailers:http_payload(_, message)
    if message:input() - #(message:body() or "") > END then
        -- A filter has no other way to end a request with a response.
        error("a request has trailers")
    end
end

core.register_filter("refuse_trailers", trailers, function(class)
    return class
end)
