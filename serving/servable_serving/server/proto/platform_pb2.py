"""The messages of platform.proto, from its descriptor set; the types are in platform_pb2.pyi.

They are made in a descriptor pool of their own, as those of config_pb2, and beside TensorFlow's,
which they contain: `ConfigProto`.
"""

from importlib.resources import files

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2
from google.protobuf.descriptor import FileDescriptor
from tensorflow.core.protobuf import config_pb2

_pool = descriptor_pool.DescriptorPool()


def _add(file: FileDescriptor) -> None:
    for dependency in file.dependencies:
        _add(dependency)
    copy = descriptor_pb2.FileDescriptorProto()
    file.CopyToProto(copy)
    _pool.Add(copy)  # type: ignore[no-untyped-call]


for _module in (any_pb2, wrappers_pb2, config_pb2):
    _add(_module.DESCRIPTOR)
(_file,) = descriptor_pb2.FileDescriptorSet.FromString(
    files(__package__).joinpath("platform.binpb").read_bytes()
).file
_pool.Add(_file)  # type: ignore[no-untyped-call]

DESCRIPTOR = _pool.FindFileByName("platform.proto")  # type: ignore[no-untyped-call]

for _name, _message in DESCRIPTOR.message_types_by_name.items():
    globals()[_name] = message_factory.GetMessageClass(_message)
