-- What a booking does in Redis: the same id gets the same reply, no event is oversold, and the booking and its tickets
-- are kept, so that they can be shown, cancelled and redeemed. KEYS: event, booking. ARGV: id of the event, of the
-- booking, quantity. Replies are status lines.
local quantity = tonumber(ARGV[3])
local old = redis.call('HMGET', KEYS[2], 'event', 'quantity', 'reply')
if old[1] then
    if old[1] ~= ARGV[1] or old[2] ~= ARGV[3] then
        return redis.status_reply('{"reply":"error","code":"booking_conflict"}')
    end
    return redis.status_reply(old[3])
end
local available = tonumber(redis.call('HGET', KEYS[1], 'available') or '0')
if available < quantity then
    return redis.status_reply('{"reply":"error","code":"sold_out","available":' .. available .. '}')
end
available = redis.call('HINCRBY', KEYS[1], 'available', -quantity)
redis.call('HINCRBY', KEYS[1], 'sold', quantity)
local version = redis.call('HINCRBY', KEYS[1], 'version', 1)
local tickets = {}
for number = 1, quantity do
    local ticket = ARGV[2] .. '.' .. number
    tickets[number] = '"' .. ticket .. '"'
    redis.call('HSET', 'ticket:' .. ticket, 'event', ARGV[1], 'booking', ARGV[2], 'state', 'valid')
end
local reply = '{"reply":"booking","id":"' .. ARGV[2] .. '","event":"' .. ARGV[1] .. '","quantity":' .. quantity
    .. ',"state":"confirmed","tickets":[' .. table.concat(tickets, ',') .. '],"available":' .. available
    .. ',"version":' .. version .. '}'
redis.call('HSET', KEYS[2], 'event', ARGV[1], 'quantity', ARGV[3], 'reply', reply)
return redis.status_reply(reply)
