"""Runs compiled models from Python through their C interface (include/tilewright/tilewright_model.h), over torch tensors on any device."""

import ctypes
import json

import torch

# By number, as tilewright_dtype lists them; those that torch has too.
DTYPES = {0: torch.float64, 1: torch.float32, 2: torch.float16, 3: torch.bfloat16, 10: torch.int64, 11: torch.int32, 12: torch.int16, 13: torch.int8,
          19: torch.uint8, 22: torch.bool}


class Value(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("dtype", ctypes.c_int), ("rank", ctypes.c_int32), ("dims", ctypes.POINTER(ctypes.c_int64)),
                ("dim_names", ctypes.POINTER(ctypes.c_char_p))]


class Options(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("threads", ctypes.c_int32)]


class ProfileEntry(ctypes.Structure):
    _fields_ = [("kernel", ctypes.c_char_p), ("source", ctypes.c_char_p), ("calls", ctypes.c_int64), ("seconds", ctypes.c_double)]


def function(result, *arguments):
    return ctypes.CFUNCTYPE(result, *arguments)


CONTEXT, STATUS, NUMBER, ADDRESS = ctypes.c_void_p, ctypes.c_int, ctypes.c_int32, ctypes.c_void_p
DIMS = ctypes.POINTER(ctypes.c_int64)


class Api(ctypes.Structure):
    _fields_ = [("abi_version", ctypes.c_uint32), ("struct_size", ctypes.c_uint32), ("name", ctypes.c_char_p), ("manifest", ctypes.c_char_p),
                ("input_count", NUMBER), ("output_count", NUMBER), ("inputs", ctypes.POINTER(Value)), ("outputs", ctypes.POINTER(Value)),
                ("create", function(STATUS, ctypes.POINTER(Options), ctypes.POINTER(CONTEXT))), ("creation_error", function(ctypes.c_char_p)),
                ("destroy", function(None, CONTEXT)), ("set_input", function(STATUS, CONTEXT, NUMBER, ADDRESS, DIMS, NUMBER)),
                ("set_output", function(STATUS, CONTEXT, NUMBER, ADDRESS, ctypes.c_size_t)), ("run", function(STATUS, CONTEXT)),
                ("get_output", function(STATUS, CONTEXT, NUMBER, ctypes.POINTER(ADDRESS), ctypes.POINTER(DIMS), ctypes.POINTER(NUMBER))),
                ("error", function(ctypes.c_char_p, CONTEXT)), ("set_profiling", function(STATUS, CONTEXT, NUMBER)),
                ("read_profile", function(NUMBER, CONTEXT, ctypes.POINTER(ProfileEntry), NUMBER)), ("memory_bytes", function(ctypes.c_size_t, CONTEXT))]


class Artifact:
    """The first model of a library, and a context of it. Tensors that are given to run() are read and written where they are: in the host's
    memory, or in a GPU's when the model is for one."""

    ABI = 1

    def __init__(self, path, threads=0):
        library = ctypes.CDLL(path)
        library.tilewright_model.restype, library.tilewright_model.argtypes = ctypes.POINTER(Api), [NUMBER]
        self.api = library.tilewright_model(0).contents
        if self.api.abi_version != self.ABI:
            raise RuntimeError(f"{path} has version {self.api.abi_version} of the C interface; this script knows {self.ABI}")
        self.target = json.loads(self.api.manifest)["target"]
        self.context = CONTEXT()
        if self.api.create(Options(ctypes.sizeof(Options), threads), ctypes.byref(self.context)) != 0:
            raise RuntimeError(self.api.creation_error().decode())

    def __del__(self):
        if getattr(self, "context", None):
            self.api.destroy(self.context)

    def checked(self, status):
        if status != 0:
            raise RuntimeError(self.api.error(self.context).decode())

    def bind(self, inputs, outputs):
        """Contiguous tensors, which must live until the last run with them."""
        for index, tensor in enumerate(inputs):
            wanted = DTYPES[self.api.inputs[index].dtype]
            assert tensor.dtype == wanted and tensor.is_contiguous(), f"input {index} is {tensor.dtype}; needs contiguous {wanted}"
            self.checked(self.api.set_input(self.context, index, tensor.data_ptr(), (ctypes.c_int64 * tensor.dim())(*tensor.shape), tensor.dim()))
        for index, tensor in enumerate(outputs):
            wanted = DTYPES[self.api.outputs[index].dtype]
            assert tensor.dtype == wanted and tensor.is_contiguous(), f"output {index} is {tensor.dtype}; needs contiguous {wanted}"
            self.checked(self.api.set_output(self.context, index, tensor.data_ptr(), tensor.nbytes))

    def run(self):
        """Waits for the end of the computation."""
        self.checked(self.api.run(self.context))

    def output_dims(self, index):
        data, dims, rank = ADDRESS(), DIMS(), NUMBER()
        self.checked(self.api.get_output(self.context, index, ctypes.byref(data), ctypes.byref(dims), ctypes.byref(rank)))
        return [dims[axis] for axis in range(rank.value)]

    def profile(self, runs):
        """Milliseconds of a run inside of kernels, by the model's nodes."""
        self.api.set_profiling(self.context, 1)
        for _ in range(runs):
            self.run()
        count = self.api.read_profile(self.context, None, 0)
        entries = (ProfileEntry * count)()
        self.api.read_profile(self.context, entries, count)
        self.api.set_profiling(self.context, 0)
        return {f"{entry.kernel.decode()}: {entry.source.decode()}": 1e3 * entry.seconds / runs for entry in entries if entry.calls}
