// A library that is no CUDA module, for loader_test.cc.
extern "C" int something_else() { return 0; }
