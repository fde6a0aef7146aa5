%% Processes and messages, timers, files, tables, and programs of the system.
-mode(compile).

main([File]) ->
    ring(200, 5),
    server(),
    timers(),
    files(File),
    failures(),
    io:format("~s", [os:cmd("echo from a shell; seq 3 | tac")]),
    halt(3).

%% A message goes around a ring.
ring(Count, Rounds) ->
    Next = lists:foldl(fun(_, To) -> spawn_link(fun() -> pass(To) end) end, self(), lists:seq(2, Count)),
    Hops = lists:foldl(fun(_, N) -> Next ! {hop, N + 1}, receive {hop, M} -> M end end, 0, lists:seq(1, Rounds)),
    Next ! stop,
    receive stop -> ok end,
    io:format("ring: ~p hops~n", [Hops]).

pass(To) ->
    receive
        {hop, N} -> To ! {hop, N + 1}, pass(To);
        stop -> To ! stop
    end.

%% Many clients of one server, which counts in a table.
server() ->
    Table = ets:new(counts, [public, set]),
    Server = spawn_link(fun() -> serve(Table) end),
    Clients = [spawn_monitor(fun() -> [count(Server, K rem 7) || K <- lists:seq(1, N)] end) || N <- lists:seq(1, 40)],
    [receive {'DOWN', Ref, process, Pid, normal} -> ok end || {Pid, Ref} <- Clients],
    io:format("~p~n", [lists:sort(ets:tab2list(Table))]).

serve(Table) ->
    receive
        {From, Key} ->
            From ! {self(), ets:update_counter(Table, Key, 1, {Key, 0})},
            serve(Table)
    end.

count(Server, Key) ->
    Server ! {self(), Key},
    receive {Server, _} -> ok end.

timers() ->
    [erlang:send_after(Ms, self(), Ms) || Ms <- [30, 10, 20]],
    io:format("~p~n", [[receive Ms -> Ms after 1000 -> late end || _ <- "abc"]]),
    Before = erlang:monotonic_time(millisecond),
    receive never -> ok after 50 -> ok end,
    io:format("~p~n", [erlang:monotonic_time(millisecond) - Before >= 50]).

files(File) ->
    {ok, Bytes} = file:read_file(File),
    Words = string:lexemes(Bytes, "\n"),
    Self = self(),
    Parts = [[W || W <- Words, erlang:phash2(W, 4) =:= Part] || Part <- lists:seq(0, 3)],
    [spawn_link(fun() -> Self ! {Part, length(Ws), erlang:md5(Ws)} end) || {Part, Ws} <- lists:enumerate(Parts)],
    [receive {Part, N, Md5} -> io:format("~p: ~p ~w~n", [Part, N, Md5]) end || Part <- lists:seq(1, 4)],
    Name = filename:join("/tmp", "ring-" ++ os:getpid()),
    {ok, Out} = file:open(Name, [write, delayed_write]),
    [io:format(Out, "~p ~s~n", [N, W]) || {N, W} <- lists:enumerate(lists:sublist(Words, 500))],
    ok = file:close(Out),
    {ok, Info} = file:read_file_info(Name),
    io:format("~p bytes~n", [element(2, Info)]),
    ok = file:delete(Name).

failures() ->
    {_, Ref} = spawn_monitor(fun() -> exit({failed, [self()] =/= []}) end),
    receive {'DOWN', Ref, process, _, Why} -> io:format("~p~n", [Why]) end,
    try list_to_integer("x") catch error:Reason -> io:format("~p~n", [Reason]) end.
