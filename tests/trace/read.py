"""Reads a trace, with --definitions by Perfetto's own, checks what holds for any, and prints what is in it as JSON."""

import json
import sys

if "--definitions" in sys.argv:
    from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as perfetto

    trace = perfetto.Trace()
    trace.ParseFromString(sys.stdin.buffer.read())
    Event = perfetto.TrackEvent
else:
    import wire

    trace = wire.trace(sys.stdin.buffer.read())
    Event = wire.Message

tracks, order, wrong = {}, {}, []
# What happens on each track: category, name, begin, end, notes.
happened = {}
for packet in trace.packet:
    if packet.trusted_packet_sequence_id == 0:
        wrong.append("a packet of no sequence")
    if packet.HasField("track_descriptor"):
        described = packet.track_descriptor
        if described.HasField("parent_uuid") and described.parent_uuid not in tracks:
            wrong.append(f"track {described.uuid} is below one that is not there")
        tracks[described.uuid] = described
    if not packet.HasField("track_event"):
        continue
    event = packet.track_event
    uuid, at = event.track_uuid, packet.timestamp
    if uuid not in tracks:
        wrong.append(f"an event on track {uuid}, which is not there")
        continue
    last, stack = order.setdefault(uuid, [0, []])
    if at < last:
        wrong.append(f"track {uuid} goes back from {last} to {at}")
    order[uuid][0] = at
    on = happened.setdefault(uuid, [])
    if event.type == Event.TYPE_COUNTER:
        on.append(["counter", event.counter_value, at, at, {}])
        continue
    if event.type == Event.TYPE_SLICE_END:
        if stack:
            stack.pop()[3] = at
        else:
            wrong.append(f"track {uuid} ends a slice that has not begun")
        continue
    notes = {}
    for note in event.debug_annotations:
        notes[note.name] = getattr(note, note.WhichOneof("value"))
    one = [event.categories[0], event.name, at, at, notes]
    on.append(one)
    if event.type == Event.TYPE_SLICE_BEGIN:
        stack.append(one)
for uuid, (_, stack) in order.items():
    if stack:
        wrong.append(f"slices of track {uuid} do not end: {stack}")


def below(uuid):
    return {tracks[child].name: happened.get(child, []) for child in tracks if tracks[child].parent_uuid == uuid}


def owned(kind):
    return [(uuid, getattr(track, kind)) for uuid, track in tracks.items() if track.HasField(kind)]


print(json.dumps({
    "wrong": wrong[:20],
    "processes": [
        {"pid": process.pid, "command": list(process.cmdline), "counters": below(uuid)}
        for uuid, process in owned("process")
    ],
    "tasks": [
        {"pid": thread.pid, "tid": thread.tid, "name": thread.thread_name, "calls": happened.get(uuid, []),
         "state": below(uuid)["state"]}
        for uuid, thread in owned("thread")
    ],
}))
