# Since Go 1.18 whoever iterates a map brings the iterator. The vendored reflect2 waits for one that it
# is given: memory of others is written to, and an apiserver with custom resources ends.
s/^func mapiterinit(.*/func mapiterinit(rtype, m unsafe.Pointer, it *hiter)/
s/^\t\/\/ rest fields are ignored$/\trest [11]unsafe.Pointer/
s/mapiterinit(type2\.rtype, \(.*\)),$/begun(type2.rtype, \1),/
/^func (type2 \*UnsafeMapType) UnsafeIterate(/i\
func begun(rtype, m unsafe.Pointer) *hiter {\
	it := new(hiter)\
	mapiterinit(rtype, m, it)\
	return it\
}\

