"""The messages of wire.proto, from its descriptor set.

They are created in their own descriptor pool rather than by the Python code of protoc, which
registers in the pool that TensorFlow uses and refuses every protobuf older than the protoc
that wrote it. The types are in wire_pb2.pyi, which protoc writes.
"""

from importlib.resources import files

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper


class _Enum(EnumTypeWrapper):
    """A callable enum, as in wire_pb2.pyi, which validates a number and returns it."""

    def __call__(self, number: int) -> int:
        self.Name(number)
        return number


_pool = descriptor_pool.DescriptorPool()
for _file in descriptor_pb2.FileDescriptorSet.FromString(
    files(__package__).joinpath("wire.binpb").read_bytes()
).file:
    _pool.Add(_file)  # type: ignore[no-untyped-call]

DESCRIPTOR = _pool.FindFileByName("wire.proto")  # type: ignore[no-untyped-call]

for _name, _message in DESCRIPTOR.message_types_by_name.items():
    globals()[_name] = message_factory.GetMessageClass(_message)

for _name, _enum in DESCRIPTOR.enum_types_by_name.items():
    globals()[_name] = _Enum(_enum)
    globals().update({value.name: value.number for value in _enum.values})
