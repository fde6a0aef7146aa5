# Pipes, events, a timer, a coroutine.
set in [open "|sort -r" r+]
foreach word {pear apple fig} { puts $in $word }
close $in write
puts [read $in]
close $in
after 20 {set done timer}
vwait done
puts $done
proc squares n { yield; for {set i 0} {$i < $n} {incr i} { yield [expr {$i * $i}] } }
coroutine next squares 5
puts [list [next] [next] [next]]
puts [exec sh -c "echo child | tr a-z A-Z"]
set got {}
set pipe [open "|sh -c {echo one; sleep 0.05; echo two}"]
fconfigure $pipe -blocking 0
fileevent $pipe readable { if {[gets $pipe line] >= 0} { lappend got $line } elseif {[eof $pipe]} { set end 1 } }
vwait end
puts $got
exit 3
