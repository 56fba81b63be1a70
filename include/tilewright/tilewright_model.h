/* The C interface of a compiled model. An artifact exports `tilewright_model` (and, for programs that link several artifacts,
 * `tilewright_model_<name>`). Everything is reached from the table that it returns.
 *
 * Threads: contexts share the weights and are independent of each other; one context is used by one thread at a time.
 * Ownership: inputs stay the caller's and must live until run() returns; outputs that get_output() hands out live until the
 * next run() or destroy() of that context. */
#ifndef TILEWRIGHT_MODEL_H
#define TILEWRIGHT_MODEL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TILEWRIGHT_ABI_VERSION 1u
#define TILEWRIGHT_MAX_RANK 16

typedef enum tilewright_status {
  TILEWRIGHT_OK = 0,
  TILEWRIGHT_INVALID_INPUT = 1, /* a wrong index, shape, dtype or value; the text says which */
  TILEWRIGHT_UNSUPPORTED = 2,
  TILEWRIGHT_ENVIRONMENT = 3, /* wrong machine, out of memory */
  TILEWRIGHT_INTERNAL = 4     /* a bug of Tilewright */
} tilewright_status;

/* Values never change; 4-bit and 2-bit types are one element a byte in memory. */
typedef enum tilewright_dtype {
  TILEWRIGHT_F64 = 0,
  TILEWRIGHT_F32,
  TILEWRIGHT_F16,
  TILEWRIGHT_BF16,
  TILEWRIGHT_F8E4M3FN,
  TILEWRIGHT_F8E4M3FNUZ,
  TILEWRIGHT_F8E5M2,
  TILEWRIGHT_F8E5M2FNUZ,
  TILEWRIGHT_F8E8M0,
  TILEWRIGHT_F4E2M1,
  TILEWRIGHT_I64,
  TILEWRIGHT_I32,
  TILEWRIGHT_I16,
  TILEWRIGHT_I8,
  TILEWRIGHT_I4,
  TILEWRIGHT_I2,
  TILEWRIGHT_U64,
  TILEWRIGHT_U32,
  TILEWRIGHT_U16,
  TILEWRIGHT_U8,
  TILEWRIGHT_U4,
  TILEWRIGHT_U2,
  TILEWRIGHT_BOOL
} tilewright_dtype;

/* An input or output. dims[i] is -1 where the size is given at run time; dim_names[i] then names it ("N", "2*N+1"). */
typedef struct tilewright_value {
  const char* name;
  tilewright_dtype dtype;
  int32_t rank;
  const int64_t* dims;
  const char* const* dim_names;
} tilewright_value;

/* Binds each thread that a context starts to one core of those that the thread which calls create() may run on; more threads than
 * cores share them. The threads that call create() and run() are not bound. No effect where the system refuses. */
#define TILEWRIGHT_PIN_WORKERS 1u

/* Fields are only ever added, at the end: struct_size tells which of them the caller knows, and the others are 0. An artifact does not
 * read fields that are younger than itself. */
typedef struct tilewright_options {
  size_t struct_size; /* sizeof(tilewright_options) */
  int32_t threads;    /* 0: one for each core this process may use */
  uint64_t flags;     /* TILEWRIGHT_PIN_WORKERS or 0 */
} tilewright_options;

typedef struct tilewright_profile_entry {
  const char* kernel; /* "kernel_17" */
  const char* source; /* the model's nodes it computes */
  int64_t calls;
  double seconds; /* summed over the calls */
} tilewright_profile_entry;

typedef struct tilewright_context tilewright_context;

typedef struct tilewright_model_api {
  uint32_t abi_version; /* TILEWRIGHT_ABI_VERSION of the artifact: check before anything else */
  uint32_t struct_size;
  const char* name;
  const char* manifest; /* JSON: target, policy, source hash, compiler version, kernels */
  int32_t input_count, output_count;
  const tilewright_value* inputs;
  const tilewright_value* outputs;

  /* options may be NULL. On failure *context is NULL and creation_error() tells why (per thread). */
  tilewright_status (*create)(const tilewright_options* options, tilewright_context** context);
  const char* (*creation_error)(void);
  void (*destroy)(tilewright_context* context);

  /* Row-major data of the input's dtype. rank and dims are checked against the description. */
  tilewright_status (*set_input)(tilewright_context*, int32_t index, const void* data, const int64_t* dims, int32_t rank);
  /* Optional: lets run() write output `index` to the caller's memory; data NULL goes back to the context's own. */
  tilewright_status (*set_output)(tilewright_context*, int32_t index, void* data, size_t bytes);
  tilewright_status (*run)(tilewright_context*);
  tilewright_status (*get_output)(tilewright_context*, int32_t index, const void** data, const int64_t** dims, int32_t* rank);

  /* Text of the last failure of this context; "" when there was none. */
  const char* (*error)(const tilewright_context*);
  tilewright_status (*set_profiling)(tilewright_context*, int32_t on);                                     /* also clears what was gathered */
  int32_t (*read_profile)(const tilewright_context*, tilewright_profile_entry* entries, int32_t capacity); /* returns the number of kernels */
  size_t (*memory_bytes)(const tilewright_context*); /* arenas, dynamic tensors and scratch held now; not the weights */
} tilewright_model_api;

/* Returns the table of model `index` in this artifact, NULL past the last one. */
const tilewright_model_api* tilewright_model(int32_t index);
typedef const tilewright_model_api* (*tilewright_model_function)(int32_t);

#ifdef __cplusplus
}
#endif
#endif
