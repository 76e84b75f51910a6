"""The Lua scripts of the Redis transport.

Every script but `LEASES` touches keys of one room only, which share a hash tag, so that each of
them runs on one node of a cluster; `LEASES` takes any number of rooms, on a cluster those of one
slot. Where a log is not the one that was meant, a script answers with ``{'', id
of the log that is there}``.

The offset of a log's last entry is kept in the field ``tail`` of the checkpoint's hash: asking
the stream itself for its last entry would copy that entry, however large it is. What others have
added to the stream by hand is found behind that offset.

The fields ``size`` (bytes of all payloads), ``counted`` (how many entries that is) and ``first``
(the offset of the oldest) are kept for the same reason. Older versions do not keep them: where
``counted`` is not the stream's length, `SIZE` counts anew.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from hashlib import sha1
from typing import Any

_STAGED = """
if #KEYS > {count} then
  ARGV[{argument}] = redis.call('GET', KEYS[{count} + 1])
  if not ARGV[{argument}] then return redis.error_reply('ERR its parts have expired') end
  KEYS[{count} + 1] = nil
end
"""


def _counts(names: Sequence[str]) -> range:
    """How many there may be of what is named so."""
    count = len(names)
    return range(count - 1, sys.maxsize) if names[-1].endswith("*") else range(count, count + 1)


class Script:
    """A Lua script and the SHA-1 by which Redis knows it.

    Run without a key it does nothing, which tells whether Redis knows it.

    Attributes:
        keys, arguments: names of its KEYS and ARGV; a last one that ends in ``*`` may be there
            any number of times.
    """

    def __init__(self, keys: str, arguments: str, body: str, *, large: str = "") -> None:
        """
        Args:
            keys, arguments: names, separated by blanks.
            body: the script.
            large: the argument that may come in pieces: it is read from one more key then.
        """
        self.keys = keys.split()
        self.arguments = arguments.split()
        self._key_counts, self._argument_counts = _counts(self.keys), _counts(self.arguments)
        self.large = self.arguments.index(large) if large else None
        self.source = f"if #KEYS == 0 then return end\n{body}"
        if self.large is not None:
            staged = _STAGED.format(count=len(self.keys), argument=self.large + 1)
            self.source = staged + self.source
        self.sha = sha1(self.source.encode()).hexdigest()

    def command(self, keys: Sequence[str], arguments: Sequence[Any]) -> tuple[Any, ...]:
        """Return the command that runs it.

        Raises:
            TypeError: if it takes other numbers of keys or arguments.
        """
        if len(keys) not in self._key_counts:
            raise TypeError(f"{len(keys)} given for {self.keys}")
        if len(arguments) not in self._argument_counts:
            raise TypeError(f"{len(arguments)} given for {self.arguments}")
        return ("EVALSHA", self.sha, len(keys), *keys, *arguments)

    def staged(self, keys: Sequence[str], arguments: Sequence[Any], key: str) -> tuple[Any, ...]:
        """Return the command that runs it with the large argument from `key`."""
        assert self.large is not None
        rest = list(arguments)
        rest[self.large] = ""
        name, sha, count, *others = self.command(keys, rest)
        return (name, sha, count + 1, *others[:count], key, *others[count:])


_SUM = """
-- A sum in a field; anything else that stands there is none.
local function number(text)
  local value = tonumber(text)
  return value and value >= 0 and value < 2 ^ 53 and value or nil
end
"""

# What is no log is made one again: a log's id that is none stands for content of an unknown
# lineage; a stream that is none, or takes no entries any more, begins anew, with another id, so
# that all who have the room open put into it what they hold. A checkpoint is kept either way.
_LOG = """
local function is_error(reply, word)
  return type(reply) == 'table' and reply.err and string.find(reply.err, word, 1, true)
end
local function set_log(checkpoint_key, log)
  redis.call('HSET', checkpoint_key, 'log', log, 'offset', '0-0')
  redis.call('HDEL', checkpoint_key, 'tail', 'size', 'counted', 'first')
  return log
end
local function renew(log_key, checkpoint_key, log)
  local lineage = string.match(log, '^[^/]*')
  local renewed = set_log(checkpoint_key, lineage .. '/' .. string.sub(redis.sha1hex(log), 1, 8))
  redis.call('UNLINK', log_key)
  return renewed
end
local function log_there(log_key, checkpoint_key)
  local log = redis.pcall('HGET', checkpoint_key, 'log')
  if is_error(log, 'WRONGTYPE') then return nil end
  if type(log) == 'table' then return redis.call('HGET', checkpoint_key, 'log') end
  if not log then return nil end
  if #log > 200 or not string.find(log, '^[!-~]+$') then
    log = set_log(checkpoint_key, 'found-' .. redis.sha1hex(log) .. '/1')
  end
  if is_error(redis.pcall('XLEN', log_key), 'WRONGTYPE') then
    log = renew(log_key, checkpoint_key, log)
  end
  return log
end
"""

_TAIL = """
local function tail(log_key, checkpoint_key, known, length)
  if (length or redis.call('XLEN', log_key)) == 0 then return '0-0' end
  known = known or redis.call('HGET', checkpoint_key, 'tail') or '0-0'
  local behind = redis.pcall('XRANGE', log_key, '(' .. known, '+', 'COUNT', 1)
  if behind.err or behind[1] then
    known = redis.call('XREVRANGE', log_key, '+', '-', 'COUNT', 1)[1][1]
  end
  return known
end
"""

# An entry's envelope, as codec.EntryEnvelope reads it. Redis cuts a subscriber off that has over
# 32 MB queued, so a large payload is announced by its offset alone.
_APPEND = (
    _LOG
    + _SUM
    + _TAIL
    + """
local function append(log, replica, payload, channel, inline_max, size, counted, known, length)
  local previous = tail(KEYS[1], KEYS[2], known, length)
  local offset = redis.call('XADD', KEYS[1], '*', 'u', payload, 'r', replica, 'p', previous)
  redis.call('HSET', KEYS[2], 'tail', offset, 'size', size + #payload, 'counted', counted + 1)
  local envelope = '\\1E'
  for _, field in ipairs({replica, log, previous, offset}) do
    envelope = envelope .. string.char(#field) .. field
  end
  if #payload <= inline_max then envelope = envelope .. payload end
  redis.call('PUBLISH', channel, envelope)
  return {previous, offset}
end

-- Before anything is written: where it is refused halfway, it is tried again and again.
local function lacks_right(channel)
  local may = redis.acl_check_cmd
  if not may then return end
  local lacks = not may('HSET', KEYS[2], 'log', '') and 'HSET'
    or not may('XADD', KEYS[1], '*', 'u', '') and 'XADD'
    or not may('PUBLISH', channel, '') and 'PUBLISH'
    or not may('UNLINK', KEYS[1]) and 'UNLINK'
    or not may('PERSIST', KEYS[3]) and 'PERSIST'
  if lacks then
    return redis.error_reply('NOPERM this account has no permission to run ' .. lacks)
  end
end
"""
)

# Where the entries would be more than `most_bytes`, the answer is ``{'', log, their bytes}``.
APPEND = Script(
    "log checkpoint saved",
    "log_id replica payload channel inline_max_bytes most_bytes",
    _APPEND
    + """
local fields = {'log', 'size', 'counted', 'tail'}
local there = redis.pcall('HMGET', KEYS[2], unpack(fields))
local length = redis.pcall('XLEN', KEYS[1])
if there[1] ~= ARGV[1] or type(length) == 'table' then
  local log = log_there(KEYS[1], KEYS[2])
  if log ~= ARGV[1] then return {'', log or ''} end
  there = redis.call('HMGET', KEYS[2], unpack(fields))
  length = redis.call('XLEN', KEYS[1])
end
local lacks = lacks_right(ARGV[4])
if lacks then return lacks end
local log, size, counted, known = unpack(there)
size = number(size) or 0
if size + #ARGV[3] > tonumber(ARGV[6]) then return {'', log, size} end
local done, appended = pcall(append, log, ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]),
                             size, number(counted) or 0, known, length)
if not done then
  local wrong = type(appended) == 'table' and appended.err or tostring(appended)
  -- Somebody has added an entry with the last of all offsets.
  if string.find(wrong, 'exhausted', 1, true) or string.find(wrong, 'must be greater', 1, true) then
    return {'', renew(KEYS[1], KEYS[2], log)}
  end
  return redis.error_reply(wrong)
end
-- After the entry: a script that has written before may fill a Redis that is full.
for _, key in ipairs(KEYS) do redis.call('PERSIST', key) end
return appended
""",
    large="payload",
)

SEED = Script(
    "log checkpoint saved",
    "new_log_id replica payload channel inline_max_bytes",
    _APPEND
    + """
local log = log_there(KEYS[1], KEYS[2])
if log then return {0, log, tail(KEYS[1], KEYS[2])} end
local lacks = lacks_right(ARGV[4])
if lacks then return lacks end
if is_error(redis.pcall('HSET', KEYS[2], 'log', ARGV[1], 'offset', '0-0'), 'WRONGTYPE') then
  redis.call('UNLINK', KEYS[2])
end
redis.call('HSET', KEYS[2], 'log', ARGV[1], 'offset', '0-0')
redis.call('UNLINK', KEYS[1])
redis.call('PERSIST', KEYS[3])
local offset = append(ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]), 0, 0)[2]
redis.call('HSET', KEYS[2], 'first', offset)
return {1, ARGV[1], offset}
""",
    large="payload",
)

# A page of a log: its entries from `first` on (an offset; after `(`: behind it), up to so
# many entries and bytes, or one entry that is larger; whether these are the last ones. A payload
# above `max_payload` bytes stands there as its size.
READ = Script(
    "log checkpoint",
    "log_id first max_entries max_bytes max_payload",
    _LOG
    + """
local log = log_there(KEYS[1], KEYS[2])
if log ~= ARGV[1] then return {'', log or ''} end
local max_entries, max_bytes, max_payload = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local entries, bytes, largest, first, count = {}, 0, 1, ARGV[2], 1
repeat
  local some = redis.call('XRANGE', KEYS[1], first, '+', 'COUNT', count)
  for _, entry in ipairs(some) do
    local size, sent = 0, 0
    for number, part in ipairs(entry[2]) do
      size = size + #part
      if #part > max_payload then entry[2][number] = #part else sent = sent + #part end
    end
    bytes = bytes + sent
    largest = math.max(largest, size)
    entries[#entries + 1] = entry
  end
  if #some < count then return {log, entries, 1} end
  first = '(' .. some[#some][1]
  -- How large an entry is shows only when it has been read.
  local room = math.floor((max_bytes - bytes) / largest)
  count = math.min(16, 2 * count, max_entries - #entries, room)
until count < 1
return {log, entries, 0}
""",
)

_EARLIER = """
local function numbers(offset)
  local ms, sequence = string.match(offset or '', '^(%d+)-(%d+)$')
  return tonumber(ms or 0), tonumber(sequence or 0)
end
local function earlier(one, other)
  local ms, sequence = numbers(one)
  local other_ms, other_sequence = numbers(other)
  return ms < other_ms or (ms == other_ms and sequence < other_sequence)
end
"""

# A deposed saver may come late with an older checkpoint, up to which the log is trimmed no more.
COMPACT = Script(
    "checkpoint",
    "log_id offset payload",
    _EARLIER
    + """
local log = redis.call('HGET', KEYS[1], 'log')
if log ~= ARGV[1] then return {'', log or ''} end
if earlier(ARGV[2], redis.call('HGET', KEYS[1], 'offset')) then return {'OK'} end
redis.call('HSET', KEYS[1], 'offset', ARGV[2], 'update', ARGV[3])
return {'OK'}
""",
    large="payload",
)

# `entries` and `bytes` are what goes, as far as the caller knows. Where somebody has trimmed more
# meanwhile, `base` stands for too little.
TRIM = Script(
    "log checkpoint",
    "log_id first_kept base entries bytes",
    _EARLIER
    + _SUM
    + """
local log = redis.call('HGET', KEYS[2], 'log')
if log ~= ARGV[1] then return {'', log or ''} end
if earlier(ARGV[2], redis.call('HGET', KEYS[2], 'first')) then return {'OK'} end
redis.call('HSET', KEYS[2], 'base', ARGV[3], 'first', ARGV[2])
local gone = redis.call('XTRIM', KEYS[1], 'MINID', ARGV[2])
local sums = redis.call('HMGET', KEYS[2], 'size', 'counted')
local size, counted = number(sums[1]), number(sums[2])
if gone == tonumber(ARGV[4]) and size and counted then
  redis.call('HSET', KEYS[2], 'size', size - ARGV[5], 'counted', counted - gone)
elseif gone > 0 then
  redis.call('HDEL', KEYS[2], 'size', 'counted')
end
return {'OK'}
""",
    large="base",
)

# How much a log is: log, whether all is counted, entries, their bytes, the first and the last
# offset, bytes of all else. Where it has to be counted, or `anew` is 1, `max_bytes` are counted at
# a time, from behind `after` on; what was answered then is asked for again with it.
SIZE = Script(
    "log checkpoint",
    "log_id after entries bytes first max_bytes anew",
    _LOG
    + _SUM
    + _TAIL
    + """
local log = log_there(KEYS[1], KEYS[2])
if log ~= ARGV[1] then return {'', log or ''} end
local other = redis.call('HSTRLEN', KEYS[2], 'update') + redis.call('HSTRLEN', KEYS[2], 'base')
local size, counted, first = unpack(redis.call('HMGET', KEYS[2], 'size', 'counted', 'first'))
if ARGV[2] == '0-0' and ARGV[7] == '0' and number(size) and first
    and tonumber(counted) == redis.call('XLEN', KEYS[1]) then
  return {log, 1, tonumber(counted), number(size), first, tail(KEYS[1], KEYS[2]), other}
end
counted, size, first = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local last, seen, largest, count = ARGV[2], 0, 1, 1
repeat
  local some = redis.call('XRANGE', KEYS[1], '(' .. last, '+', 'COUNT', count)
  for _, entry in ipairs(some) do
    for field = 1, #entry[2], 2 do
      if entry[2][field] == 'u' then
        local bytes = #entry[2][field + 1]
        size, seen, largest = size + bytes, seen + bytes, math.max(largest, bytes)
      end
    end
    if counted == 0 then first = entry[1] end
    counted, last = counted + 1, entry[1]
  end
  if #some < count then
    redis.pcall('HSET', KEYS[2], 'size', size, 'counted', counted, 'first', first)
    return {log, 1, counted, size, first, last, other}
  end
  count = math.min(16, 2 * count, math.floor((tonumber(ARGV[6]) - seen) / largest))
until count < 1
return {log, 0, counted, size, first, last, other}
""",
)

# KEYS are four for each room; `wanted` is 1 for each room whose lease is wanted, 0 for each other.
# Answers with a list for each room: holder, fence, log, tail, why the lease could not be had, what
# else went wrong with it, how many bytes its log, checkpoint and history are.
LEASES = Script(
    "saver log checkpoint saved*",
    "replica lease_ms keep_ms wanted*",
    _LOG
    + _SUM
    + _TAIL
    + """
local function holder_of(saver, ttl)
  local value = redis.pcall('GET', saver)
  if type(value) == 'table' and not is_error(value, 'WRONGTYPE') then redis.call('GET', saver) end
  -- What does not end, or only long after any lease would, was not taken by a server.
  local left = redis.call('PTTL', saver)
  if type(value) ~= 'string' or #value > 200 or left < 0 or left > 10 * tonumber(ttl) then
    return nil
  end
  return string.match(value, '^([!-~]+) (%d+)$')
end
local function lease(saver, log, checkpoint, saved, replica, ttl, keep, want)
  local holder, fence = holder_of(saver, ttl)
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
    if string.find(refused, 'WRONGTYPE', 1, true) then
      refused = ''
      redis.call('UNLINK', saved)
      next = try('HINCRBY', saved, 'fence', 1)
    elseif string.find(refused, 'integer') or string.find(refused, 'overflow')
        or (next and (next < 1 or next > 1e12)) then
      -- Nobody's count. Far numbers are written as no number is read.
      refused = ''
      next = redis.call('TIME')[1]
      try('HSET', saved, 'fence', next)
    end
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
  local there = log_there(log, checkpoint) or ''
  local ends = there ~= '' and tail(log, checkpoint) or '0-0'
  local bytes = 0
  if there ~= '' then
    bytes = (number(redis.call('HGET', checkpoint, 'size')) or 0)
      + redis.call('HSTRLEN', checkpoint, 'update') + redis.call('HSTRLEN', checkpoint, 'base')
  end
  return {holder or '', tonumber(fence or 0), there, ends, refused, '', bytes}
end
local answers = {}
for room = 1, #KEYS / 4 do
  local first = 4 * room - 3
  local well, answer = pcall(lease, KEYS[first], KEYS[first + 1], KEYS[first + 2],
                             KEYS[first + 3], ARGV[1], ARGV[2], ARGV[3], ARGV[3 + room])
  if not well then
    local wrong = type(answer) == 'table' and answer.err or tostring(answer)
    answer = {'', 0, '', '', '', wrong, 0}
  end
  answers[room] = answer
end
return answers
""",
)

MARK_SAVED = Script(
    "log checkpoint saved",
    "log_id offset keep_ms field_or_value*",
    _LOG
    + _TAIL
    + """
local log = log_there(KEYS[1], KEYS[2])
if log ~= ARGV[1] then return {'', log or ''} end
local noted = redis.pcall('HSET', KEYS[3], 'offset', ARGV[2], unpack(ARGV, 4))
if is_error(noted, 'WRONGTYPE') then
  redis.call('UNLINK', KEYS[3])
  noted = redis.pcall('HSET', KEYS[3], 'offset', ARGV[2], unpack(ARGV, 4))
end
if type(noted) == 'table' then return noted end
if tail(KEYS[1], KEYS[2]) == ARGV[2] then
  for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ARGV[3]) end
end
return {'OK'}
""",
)

# `tail` is the offset of the log's last entry, or empty.
EXPIRE = Script(
    "log checkpoint saved",
    "log_id tail after_ms",
    _LOG
    + _TAIL
    + """
local log = log_there(KEYS[1], KEYS[2])
if log ~= ARGV[1] then return {'', log or ''} end
if ARGV[2] ~= '' and tail(KEYS[1], KEYS[2]) ~= ARGV[2] then return {'', log} end
if tonumber(ARGV[3]) > 0 then
  for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ARGV[3]) end
else
  redis.call('UNLINK', unpack(KEYS))
end
return {'OK'}
""",
)

# The members that were heard of last, if they are many. A score of the far future is nobody's.
HEARTBEAT = Script(
    "replicas",
    "replica forget_ms keep_ms max_members",
    """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- A Redis that takes nothing more can still say who is there.
local taken = redis.pcall('ZADD', KEYS[1], now, ARGV[1])
if type(taken) == 'table' and taken.err and string.find(taken.err, 'WRONGTYPE', 1, true) then
  redis.call('UNLINK', KEYS[1])
  taken = redis.call('ZADD', KEYS[1], now, ARGV[1])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], now + ARGV[2], '+inf')
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {now, redis.call('ZRANGE', KEYS[1], -ARGV[4], -1, 'WITHSCORES'),
        type(taken) == 'table' and taken.err or ''}
""",
)

# The cluster's session id: the one that is there, or `session` in place of none or of what is none.
# The second item tells whether something was replaced.
SESSION = Script(
    "session",
    "session keep_ms",
    """
local there = redis.pcall('GET', KEYS[1])
if type(there) == 'string' and #there <= 200 and string.find(there, '^[!-~]+$') then
  redis.pcall('PEXPIRE', KEYS[1], ARGV[2])
  return {there, 0}
end
-- One that takes nothing more is no reason to stay without a session.
redis.pcall('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {ARGV[1], there and 1 or 0}
""",
)

# What a log begins with for who joins: its id, the checkpoint's offset and the checkpoint, or its
# size, if that is more than `max_bytes`; whether the checkpoint's key is of another kind; the bytes
# of all entries; the offset of the last one.
JOIN = Script(
    "log checkpoint",
    "field max_bytes",
    _LOG
    + """
local log = log_there(KEYS[1], KEYS[2])
if not log then
  local wrong = is_error(redis.pcall('HGET', KEYS[2], 'log'), 'WRONGTYPE')
  return {'', '', false, wrong and 1 or 0, 0, ''}
end
local offset, size, tail = unpack(redis.call('HMGET', KEYS[2], 'offset', 'size', 'tail'))
local update = redis.call('HSTRLEN', KEYS[2], ARGV[1])
if update == 0 or update <= tonumber(ARGV[2]) then
  update = redis.call('HGET', KEYS[2], ARGV[1])
end
return {log, offset or '', update, 0, tonumber(size) or 0, tail or ''}
""",
)

# Puts a field of a hash, or the payload of an entry, into a key of its own, from which it can be
# read in pieces; answers with its size and, for a hash, with its field `offset`. Where it is no
# more than `whole_bytes`, or that key cannot be written, as in a Redis that is full, the answer is
# the value itself.
STAGE = Script(
    "source staged",
    "kind name keep_ms whole_bytes",
    """
local value, offset
if ARGV[1] == 'field' then
  value, offset = unpack(redis.call('HMGET', KEYS[1], ARGV[2], 'offset'))
else
  local entry = redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2])[1]
  for number = 1, entry and #entry[2] or 0, 2 do
    if entry[2][number] == 'u' then value = entry[2][number + 1] end
  end
end
if not value then return {false, ''} end
if #value <= tonumber(ARGV[4]) then return {value, offset or ''} end
local done = redis.pcall('SET', KEYS[2], value, 'PX', ARGV[3])
if type(done) == 'table' and done.err then return {value, offset or ''} end
return {#value, offset or ''}
""",
)

# The values of some fields of a hash, or of all; those over `max_bytes` stand there as their size.
# `most` is 0 for some; where all are asked for and these are more than that, the answer is how
# many.
READ_MAP = Script(
    "map",
    "most max_bytes fields*",
    """
local values = {}
if ARGV[1] ~= '0' then
  local there = redis.call('HLEN', KEYS[1])
  if there > tonumber(ARGV[1]) then return there end
  values = redis.call('HGETALL', KEYS[1])
  for number = 2, #values, 2 do
    if #values[number] > tonumber(ARGV[2]) then values[number] = #values[number] end
  end
  return values
end
for _, name in ipairs({unpack(ARGV, 3)}) do
  local value = redis.call('HSTRLEN', KEYS[1], name)
  -- 0 is that of none, too.
  if value <= tonumber(ARGV[2]) then value = redis.call('HGET', KEYS[1], name) end
  if value then
    values[#values + 1] = name
    values[#values + 1] = value
  end
end
return values
""",
)

WRITE_MAP = Script(
    "map",
    "field value keep",
    """
return redis.call(ARGV[3] == '1' and 'HSETNX' or 'HSET', KEYS[1], ARGV[1], ARGV[2])
""",
    large="value",
)

# What is said of rooms is written down, 0 removes one. Answers with the bytes of all rooms
# together, how many rooms that are, the room that is said to be the largest, and some from `rank`
# on, for whoever looks whether what is said of them is so.
USAGE = Script(
    "usage",
    "keep_ms most_rooms rank rooms_and_bytes*",
    """
local function said()
  for number = 4, #ARGV, 2 do
    if tonumber(ARGV[number + 1]) > 0 then
      redis.call('ZADD', KEYS[1], ARGV[number + 1], ARGV[number])
    else
      redis.call('ZREM', KEYS[1], ARGV[number])
    end
  end
  return redis.call('ZRANGE', KEYS[1], -ARGV[2], -1, 'WITHSCORES')
end
local there = redis.pcall('ZRANGE', KEYS[1], 0, 0)
if there.err and string.find(there.err, 'WRONGTYPE', 1, true) then redis.call('UNLINK', KEYS[1]) end
local rooms = said()
local total = 0
for number = 2, #rooms, 2 do
  total = total + math.max(0, math.min(tonumber(rooms[number]) or 0, 2 ^ 50))
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return {math.min(total, 2 ^ 52), #rooms / 2, rooms[#rooms - 1] or false,
        unpack(redis.call('ZRANGE', KEYS[1], ARGV[3], ARGV[3] + 3))}
""",
)

SCRIPTS = (
    JOIN,
    STAGE,
    READ_MAP,
    WRITE_MAP,
    SIZE,
    APPEND,
    SEED,
    READ,
    COMPACT,
    TRIM,
    EXPIRE,
    LEASES,
    MARK_SAVED,
    USAGE,
    HEARTBEAT,
    SESSION,
)
"""All of them, for whoever loads them for others."""
