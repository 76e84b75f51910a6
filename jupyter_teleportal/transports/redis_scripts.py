"""The Lua scripts of the Redis transport.

Every script but `LEASES` touches keys of one room only, which share a hash tag, so that each of
them runs on one node of a cluster; `LEASES` takes any number of rooms, on a cluster those of one
slot. Where a log is not the one that was meant, a script answers with ``{'', id
of the log that is there}``.

The offset of a log's last entry is kept in the field ``tail`` of the checkpoint's hash: asking
the stream itself for its last entry would copy that entry, however large it is. What others have
added to the stream by hand is found behind that offset.
"""

from __future__ import annotations

from hashlib import sha1


class Script:
    """A Lua script and the SHA-1 by which Redis knows it."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.sha = sha1(source.encode()).hexdigest()


_TAIL = """
local function tail(log_key, checkpoint_key)
  if redis.call('XLEN', log_key) == 0 then return '0-0' end
  local known = redis.call('HGET', checkpoint_key, 'tail') or '0-0'
  if redis.call('XRANGE', log_key, '(' .. known, '+', 'COUNT', 1)[1] then
    known = redis.call('XREVRANGE', log_key, '+', '-', 'COUNT', 1)[1][1]
  end
  return known
end
"""

# An entry's envelope, as codec.EntryEnvelope reads it. Redis cuts a subscriber off that has over
# 32 MB queued, so a large payload is announced by its offset alone.
_APPEND = (
    _TAIL
    + """
local function append(log, replica, payload, channel, inline_max)
  local previous = tail(KEYS[1], KEYS[2])
  local offset = redis.call('XADD', KEYS[1], '*', 'u', payload, 'r', replica, 'p', previous)
  redis.call('HSET', KEYS[2], 'tail', offset)
  local envelope = '\\1E'
  for _, field in ipairs({replica, log, previous, offset}) do
    envelope = envelope .. string.char(#field) .. field
  end
  if #payload <= inline_max then envelope = envelope .. payload end
  redis.call('PUBLISH', channel, envelope)
  return {previous, offset}
end
"""
)

# KEYS: log, checkpoint, saved. ARGV: log id, replica, payload, channel, inline maximum in bytes
APPEND = Script(
    _APPEND
    + """
local log = redis.call('HGET', KEYS[2], 'log')
if log ~= ARGV[1] then return {'', log or ''} end
local appended = append(log, ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]))
-- After the entry: a script that has written before may fill a Redis that is full.
for _, key in ipairs(KEYS) do redis.call('PERSIST', key) end
return appended
"""
)

# KEYS: log, checkpoint, saved. ARGV: new log id, replica, payload, channel, inline maximum
SEED = Script(
    _APPEND
    + """
local log = redis.call('HGET', KEYS[2], 'log')
if log then return {0, log, tail(KEYS[1], KEYS[2])} end
redis.call('HSET', KEYS[2], 'log', ARGV[1], 'offset', '0-0')
redis.call('UNLINK', KEYS[1])
redis.call('PERSIST', KEYS[3])
return {1, ARGV[1], append(ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]))[2]}
"""
)

# KEYS: checkpoint. ARGV: log id, offset, payload. A deposed saver may come late with an older
# checkpoint, up to which the log is trimmed no more.
COMPACT = Script(
    """
local log = redis.call('HGET', KEYS[1], 'log')
if log ~= ARGV[1] then return {'', log or ''} end
local function numbers(offset)
  local ms, sequence = string.match(offset, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(sequence)
end
local ms, sequence = numbers(ARGV[2])
local known_ms, known_sequence = numbers(redis.call('HGET', KEYS[1], 'offset') or '0-0')
if ms < known_ms or (ms == known_ms and sequence < known_sequence) then return {'OK'} end
redis.call('HSET', KEYS[1], 'offset', ARGV[2], 'update', ARGV[3])
return {'OK'}
"""
)

# KEYS: log, checkpoint. ARGV: log id, offset of the first entry to keep, base
TRIM = Script(
    """
local log = redis.call('HGET', KEYS[2], 'log')
if log ~= ARGV[1] then return {'', log or ''} end
redis.call('HSET', KEYS[2], 'base', ARGV[3])
redis.call('XTRIM', KEYS[1], 'MINID', ARGV[2])
return {'OK'}
"""
)

# KEYS: saver, log, checkpoint, saved of each room. ARGV: replica, lease in ms, keep in ms, then 1
# for each room whose lease is wanted, 0 for each other. Answers with a list for each room: holder,
# fence, log, tail, why the lease could not be had, what else went wrong with it.
LEASES = Script(
    _TAIL
    + """
local function lease(saver, log, checkpoint, saved, replica, ttl, keep, want)
  local holder, fence = string.match(redis.call('GET', saver) or '', '^(%S+) (%d+)$')
  local refused = ''
  -- A Redis that takes nothing more can still say how things are.
  local function try(...)
    local done = redis.pcall(...)
    if type(done) == 'table' and done.err then
      refused = done.err
      return nil
    end
    return done
  end
  if not holder and want == '1' then
    local next = try('HINCRBY', saved, 'fence', 1)
    if next and try('SET', saver, replica .. ' ' .. next, 'PX', ttl) then
      holder, fence = replica, next
    end
  elseif holder == replica then
    if want == '1' then
      try('PEXPIRE', saver, ttl)
    elseif try('DEL', saver) then
      holder = false
    end
  end
  if holder == replica and refused == '' then
    -- Without a log the fence alone is no reason to stay.
    if redis.call('EXISTS', checkpoint) == 0 then redis.call('PEXPIRE', saved, keep) end
    for _, key in ipairs({log, checkpoint, saved}) do
      local left = redis.call('PTTL', key)
      if left > 0 and left < tonumber(keep) / 2 then redis.call('PEXPIRE', key, keep) end
    end
  end
  return {holder or '', tonumber(fence or 0), redis.call('HGET', checkpoint, 'log') or '',
          tail(log, checkpoint), refused, ''}
end
local answers = {}
for room = 1, #KEYS / 4 do
  local first = 4 * room - 3
  local well, answer = pcall(lease, KEYS[first], KEYS[first + 1], KEYS[first + 2],
                             KEYS[first + 3], ARGV[1], ARGV[2], ARGV[3], ARGV[3 + room])
  if not well then
    local wrong = type(answer) == 'table' and answer.err or tostring(answer)
    answer = {'', 0, '', '', '', wrong}
  end
  answers[room] = answer
end
return answers
"""
)

# KEYS: log, checkpoint, saved. ARGV: log id, offset, keep in ms, then fields and values
MARK_SAVED = Script(
    _TAIL
    + """
local log = redis.call('HGET', KEYS[2], 'log')
if log ~= ARGV[1] then return {'', log or ''} end
redis.call('HSET', KEYS[3], 'offset', ARGV[2], unpack(ARGV, 4))
if tail(KEYS[1], KEYS[2]) == ARGV[2] then
  for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ARGV[3]) end
end
return {'OK'}
"""
)

# KEYS: log, checkpoint, saved. ARGV: log id, offset of its last entry or '', after how many ms
EXPIRE = Script(
    _TAIL
    + """
local log = redis.call('HGET', KEYS[2], 'log')
if log ~= ARGV[1] then return {'', log or ''} end
if ARGV[2] ~= '' and tail(KEYS[1], KEYS[2]) ~= ARGV[2] then return {'', log} end
if tonumber(ARGV[3]) > 0 then
  for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ARGV[3]) end
else
  redis.call('UNLINK', unpack(KEYS))
end
return {'OK'}
"""
)

# KEYS: replicas. ARGV: replica, forget in ms, keep in ms
HEARTBEAT = Script(
    """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- A Redis that takes nothing more can still say who is there.
local taken = redis.pcall('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {now, redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES'),
        type(taken) == 'table' and taken.err or ''}
"""
)
