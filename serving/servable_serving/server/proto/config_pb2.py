"""The messages of config.proto, from its descriptor set; the types are in config_pb2.pyi.

They are made in a descriptor pool of their own, for the reasons that servable_client._wire gives.
"""

from importlib.resources import files

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_pool = descriptor_pool.DescriptorPool()
for _file in descriptor_pb2.FileDescriptorSet.FromString(
    files(__package__).joinpath("config.binpb").read_bytes()
).file:
    _pool.Add(_file)  # type: ignore[no-untyped-call]

DESCRIPTOR = _pool.FindFileByName("config.proto")  # type: ignore[no-untyped-call]

for _name, _message in DESCRIPTOR.message_types_by_name.items():
    globals()[_name] = message_factory.GetMessageClass(_message)
