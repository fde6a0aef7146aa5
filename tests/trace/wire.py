"""Decodes traces without Perfetto's package: the fields that read.py looks at, as Perfetto's definitions have them."""

U, S, M = "varint", "text", "message"
# Field number: name, type, the message's, whether it is repeated.
FIELDS = {
    "Trace": {1: ("packet", M, "TracePacket", True)},
    "TracePacket": {8: ("timestamp", U), 10: ("trusted_packet_sequence_id", U), 11: ("track_event", M, "TrackEvent"),
                    13: ("sequence_flags", U), 60: ("track_descriptor", M, "TrackDescriptor")},
    "TrackDescriptor": {1: ("uuid", U), 2: ("name", S), 3: ("process", M, "ProcessDescriptor"),
                        4: ("thread", M, "ThreadDescriptor"), 5: ("parent_uuid", U), 8: ("counter", M, "CounterDescriptor")},
    "ProcessDescriptor": {1: ("pid", U), 2: ("cmdline", S, None, True), 6: ("process_name", S)},
    "ThreadDescriptor": {1: ("pid", U), 2: ("tid", U), 5: ("thread_name", S)},
    "CounterDescriptor": {3: ("unit", U)},
    "TrackEvent": {4: ("debug_annotations", M, "DebugAnnotation", True), 9: ("type", U), 11: ("track_uuid", U),
                   22: ("categories", S, None, True), 23: ("name", S), 30: ("counter_value", U)},
    "DebugAnnotation": {3: ("uint_value", U), 6: ("string_value", S), 7: ("pointer_value", U), 10: ("name", S)},
}


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


class Message:
    TYPE_SLICE_BEGIN, TYPE_SLICE_END, TYPE_INSTANT, TYPE_COUNTER = 1, 2, 3, 4

    def __init__(self, kind, data):
        self.kind, self.fields, at = kind, {}, 0
        while at < len(data):
            tag, at = varint(data, at)
            name, wire, of, many = (*FIELDS[kind][tag >> 3], None, False)[:4]
            assert tag & 7 == (0 if wire == U else 2), f"{name} of {kind} is written as {tag & 7}"
            value, at = varint(data, at)
            if wire != U:
                length, value = value, data[at:at + value]
                assert len(value) == length, f"{name} of {kind} is cut off"
                at += length
                value = value.decode() if wire == S else Message(of, value)
            if many:
                self.fields.setdefault(name, []).append(value)
            else:
                self.fields[name] = value

    def __getattr__(self, name):
        for field in FIELDS[self.kind].values():
            if field[0] == name:
                empty = [] if len(field) == 4 else 0 if field[1] == U else ""
                return self.fields.get(name, empty)
        raise AttributeError(name)

    def HasField(self, name):
        return name in self.fields

    def WhichOneof(self, _):
        return next(name for name in self.fields if name.endswith("_value"))


def trace(data):
    return Message("Trace", data)
