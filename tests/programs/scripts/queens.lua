-- Tables, closures, coroutines, strings, errors, files.
local function queens(n)
  local count, rows, up, down = 0, {}, {}, {}
  local function place(c)
    if c > n then count = count + 1 return end
    for r = 1, n do
      if not (rows[r] or up[r + c] or down[r - c + n]) then
        rows[r], up[r + c], down[r - c + n] = true, true, true
        place(c + 1)
        rows[r], up[r + c], down[r - c + n] = nil, nil, nil
      end
    end
  end
  place(1)
  return count
end
for n = 4, 8 do print(n, queens(n)) end

local function primes()
  return coroutine.wrap(function()
    local sieve = {}
    for n = 2, 2000 do
      if not sieve[n] then
        coroutine.yield(n)
        for m = n * n, 2000, n do sieve[m] = true end
      end
    end
  end)
end
local all = {}
for p in primes() do all[#all + 1] = p end
print(#all, table.concat(all, " ", #all - 5))

local counts, order = {}, {}
for line in io.lines("words.txt") do
  local first = line:sub(1, 2)
  if not counts[first] then order[#order + 1] = first end
  counts[first] = (counts[first] or 0) + 1
end
table.sort(order, function(a, b) return counts[a] > counts[b] or (counts[a] == counts[b] and a < b) end)
for i = 1, 10 do io.write(string.format("%-4s%6d\n", order[i], counts[order[i]])) end
print(("x"):rep(3, ","), ("key = value"):match("^(%w+)%s*=%s*(%w+)$"), string.format("%q %5.2f %x", "a\nb", math.pi, 255))
print(math.maxinteger // 3, 7 // 2, -7 // 2, 7 % -3, 2 ^ 0.5, 1 << 62, 0x7fffffffffffffff + 1)
print(pcall(error, { code = 7 }) and "no" or "caught", select(2, pcall(function() error("plain", 0) end)))
print(utf8.char(228, 8364, 128512), utf8.len("mé"), #"mé")
math.randomseed(42)
print(math.random(1000), math.random(1000), math.random(1000))
local f <close> = assert(io.open("lua.out", "w+"))
f:write("first\n", 2, "\n", 3.5, "\n")
f:seek("set")
print(f:read("l", "n", "n"))
print(os.time({ year = 2020, month = 2, day = 29, hour = 12 }), os.date("!%Y-%m-%d %H:%M:%S", 86400), os.getenv("HOME"))
io.stderr:write("to standard error\n")
os.exit(3)
