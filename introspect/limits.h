// The limits of introspect/: how far any walk over input from outside may go.
//
// Each is far above what a real kernel reaches and low enough that hostile input costs milliseconds
// and not minutes. Walks that reach one fail with kCorrupt, or say what they left out.
#pragma once

#include <cstddef>
#include <cstdint>

namespace guestscope {

// --- kernel files ---

/// A kernel image: as a compressed file, unpacked, or put together from segments. A distribution
/// kernel has 60 MB, a vmlinux with debug information 600.
inline constexpr std::size_t kMaxKernelBytes = 1U << 30;
/// Wrappings around a kernel: compressed, zboot, compressed again.
inline constexpr unsigned kMaxKernelWrappings = 4;
/// Segments of an ELF file. A kernel has 3 to 6.
inline constexpr std::size_t kMaxElfSegments = 64;
/// What may lie between the segments of a kernel, beyond as much again as they have.
inline constexpr std::size_t kMaxSegmentGap = 64U << 20;
/// ELF files inside a kernel image: two or three vDSOs.
inline constexpr std::size_t kMaxInnerElfFiles = 256;
/// A note that holds a build id: 16 bytes and the id.
inline constexpr std::size_t kMaxBuildIdNoteBytes = 16 + 64;
/// Pieces of an image that look like BTF, of which the largest are parsed.
inline constexpr std::size_t kMaxBtfCandidates = 16;
/// What looks like BTF may claim so many times the image in all. Of real pieces none overlap.
inline constexpr std::size_t kMaxBtfOverlap = 4;

/// Sections of a kernel file. A real one has about 80; -ffunction-sections builds stay below this.
inline constexpr std::size_t kMaxElfSections = 65536;
/// A note section that is searched for the build id. Real ones have a few hundred bytes.
inline constexpr std::size_t kMaxNoteBytes = 1U << 20;
/// linux_banner: about 200 bytes.
inline constexpr std::size_t kMaxBannerBytes = 1024;

/// How much of a foreign kernel's read-only data is searched for its banner, and in which steps.
/// The banner of a distribution kernel lies in the first 2 MB.
inline constexpr std::size_t kMaxBannerSearchBytes = 8U << 20;
inline constexpr std::size_t kBannerSearchStep = 64U << 10;

// --- kallsyms ---

/// Symbols of one kernel: distributions have 100,000 to 250,000, a kernel with everything built in
/// about a million.
inline constexpr std::size_t kMaxKallsymsSymbols = 1U << 22;
/// Fewer have one marker, which is 0 and proves nothing. The smallest real kernels have thousands.
inline constexpr std::size_t kMinKallsymsSymbols = 257;
/// All names together, expanded. 200,000 have 5 MB.
inline constexpr std::size_t kMaxKallsymsNameBytes = 128U << 20;
/// Names looked at while the place of the names is searched, wrong places included: 30 ms. Finding
/// 200,000 takes under half a million.
inline constexpr std::size_t kMaxKallsymsSteps = 1U << 23;
/// Words 0 in front of a token table of which each may be the first marker.
inline constexpr std::size_t kMaxKallsymsMarkers = 4096;
/// Relocations of an arm64 image looked at. A distribution kernel has 300,000.
inline constexpr std::size_t kMaxRelocationSteps = 1U << 24;
/// Token tables that are tried. A kernel has one; guest memory can hold remains of others.
inline constexpr std::size_t kMaxKallsymsCandidates = 16;

// --- a kernel in guest memory ---

/// What is read of a guest's kernel image in search of its symbols and types: at once (about 12 ms
/// through the stub), and in all. Read-only data of a distribution kernel has 10 to 20 MB.
inline constexpr std::size_t kDiscoverySliceBytes = 1U << 20;
inline constexpr std::size_t kMaxDiscoveryBytes = 96U << 20;
/// Code of one function that is searched for the addresses it uses.
inline constexpr std::size_t kMaxFunctionBytes = 4096;
/// struct idr: 24 bytes, a few hundred with lock debugging. Each address that a function uses may
/// be one.
inline constexpr std::size_t kMaxIdrBytes = 1024;

// --- kernel structures ---

/// CPUs: the largest NR_CPUS that a kernel can be built with is 8192.
inline constexpr std::size_t kMaxCpus = 8192;
/// Entries of an IDR, and inner nodes of its tree: maps and programs are limited by their own ids.
inline constexpr std::size_t kMaxIdrEntries = 1U << 16;
inline constexpr std::size_t kMaxIdrNodes = 1U << 14;
/// Ids that one program may name (used maps) or functions that it may have. The verifier allows 64
/// maps and 256 functions.
inline constexpr std::size_t kMaxProgMaps = 256;
inline constexpr std::size_t kMaxProgFunctions = 512;
/// A kernel function's name. KSYM_NAME_LEN is 512.
inline constexpr std::size_t kMaxFunctionNameBytes = 512;
/// Instructions or machine code of one program. The verifier accepts a million instructions of 8
/// bytes, and replaces some by several.
inline constexpr std::size_t kMaxProgCodeBytes = 64U << 20;
/// Parts of a path, mounts included. A path has at most 4096 bytes.
inline constexpr std::size_t kMaxPathDepth = 256;
/// Functions that the links of one answer are attached to, all together; and of how many the names
/// are sought (0.2 ms each). One link can have a million.
inline constexpr std::size_t kMaxLinkFunctions = 1U << 14;
inline constexpr std::size_t kMaxLinkSymbols = 256;
/// Programs that are read together: so many, or fewer when there are many CPUs.
inline constexpr std::size_t kProgStep = 512;
inline constexpr std::size_t kStatsPerStep = 16384;

// --- sched_ext ---

/// Dispatch queues: some for each CPU, and as many as a scheduler makes, one for each cgroup say.
inline constexpr std::size_t kMaxDispatchQueues = 1U << 16;
/// Tasks in all lists of one answer. What is runnable on a busy machine are thousands.
inline constexpr std::size_t kMaxQueuedTasks = 1U << 16;
/// Elements one behind the other in a bucket of a hash table of queues: the kernel makes the table
/// larger at 16. Each costs an exchange.
inline constexpr std::size_t kMaxQueueChain = 256;
/// Steps along lists of tasks, of which each costs an exchange. Lists of tasks that are listed
/// elsewhere as well take 32, however long they are.
inline constexpr std::size_t kMaxTaskListSteps = 1024;
/// Schedulers, one of them the root's; each costs some exchanges. Kernels allow a depth of 4.
inline constexpr std::size_t kMaxSchedulers = 256;
/// What a scheduler says when it ends: SCX_EXIT_MSG_LEN is 1024.
inline constexpr std::size_t kMaxExitMessageBytes = 1024;
/// Scheduling domains above each other: SMT, cluster, cache, package, and a few for NUMA.
inline constexpr std::size_t kMaxDomainDepth = 16;
/// Scheduling groups of all CPUs together. Most are shared by the CPUs of a domain.
inline constexpr std::size_t kMaxSchedGroups = 1U << 16;
/// Exchanges in which groups are followed to further groups: one or two, and for NUMA domains that
/// overlap, one for each node.
inline constexpr std::size_t kMaxGroupSteps = 1024;
/// What an answer about scheduling domains may hold, a domain counted as kDomainBytes: every CPU
/// has its own, and each can name every CPU. 1024 CPUs take 20 MB.
inline constexpr std::size_t kMaxTopologyBytes = 64U << 20;
inline constexpr std::size_t kDomainBytes = 4096;
/// What an answer about tasks and queues may hold of texts and lists that differ from task to task
/// and can be long (allowed CPUs up to 20 KB, a group's path 4 KB): half a kilobyte for each of the
/// most tasks there can be. Real ones have 20 bytes, in containers 300.
inline constexpr std::size_t kMaxAnswerTextBytes = 32U << 20;
/// A scheduling domain's or softirq's name.
inline constexpr std::size_t kMaxKernelLabelBytes = 64;

// --- map contents ---

/// One key or value. The kernel accepts values of almost 2 GB in arrays; real ones have kilobytes.
inline constexpr std::size_t kMaxKeyBytes = 64U << 10;
inline constexpr std::size_t kMaxValueBytes = 64U << 20;
/// Keys and values that are held at once for one answer: a million elements of 64 bytes.
inline constexpr std::size_t kMaxContentBytes = 104U << 20;
/// Contents of maps that can stop in the middle are read in parts of this size: 90 ms through the
/// stub.
inline constexpr std::size_t kMapPartBytes = 8U << 20;
/// Buckets of a hash table that are followed together when not all are.
inline constexpr std::size_t kMinBucketWindow = 64;
inline constexpr std::size_t kMaxBucketWindow = 1U << 16;
/// Buckets that are looked at for one part, however few elements they have: 16 MB.
inline constexpr std::size_t kMaxPartBuckets = 1U << 20;
/// What one exchange asks for at most while contents are read: memory is bounded by this plus what
/// was really read.
inline constexpr std::size_t kContentStepBytes = 1U << 20;
/// Memory for the structures (sockets, tasks, programs) that entries point to, of one exchange. A
/// task's fields that are wanted span 3 KB.
inline constexpr std::size_t kStructStepBytes = 4U << 20;
/// What the facts of one entry (a socket, an owner) are counted as in kMaxContentBytes.
inline constexpr std::size_t kFactsBytes = 1024;
/// Slots of a table of pointers that are looked at for one part of an answer: 8 MB.
inline constexpr std::size_t kMaxSlotsAtOnce = 1U << 20;
/// Nested cgroups. Paths that user space can name have less than 4096 bytes.
inline constexpr std::size_t kMaxCgroupDepth = 1024;
/// Storages of one cgroup among which its own end of their ring is searched: one for each map,
/// program and way of attaching, real ones have a handful.
inline constexpr std::size_t kMaxCgroupStorages = 256;
/// Fields of a map's values that the kernel keeps for itself. It accepts 11.
inline constexpr std::uint64_t kMaxHiddenFields = 64;
/// Different functions that the values of one part of a map point to and that are named: each costs
/// a look at all symbols of its module, while the guest stands still. Tables of functions have
/// hundreds.
inline constexpr std::size_t kMaxNamedFunctions = 4096;
/// Indexes without an entry that are listed where bpftool lists them. A table of more pointers has
/// 128 MB.
inline constexpr std::uint64_t kMaxListedIndexes = 1U << 24;
/// BTF objects of programs that are kept parsed, together.
inline constexpr std::size_t kMaxCachedBtfBytes = 64U << 20;
/// Problems that one answer lists; further ones are counted only.
inline constexpr std::size_t kMaxProblems = 100;

// --- what is runnable ---

/// Levels of one red-black tree: 2 * log2 of its nodes, so 64 are beyond what memory can hold.
inline constexpr std::size_t kMaxTreeDepth = 64;
/// Nodes of trees, entries of lists, run queues of groups that are looked at for one answer, of
/// each kind. Kernels number at most 4 million tasks, but thousands of them are runnable at a time
/// on no machine that still does something.
inline constexpr std::size_t kMaxTreeNodes = 1U << 16;
inline constexpr std::size_t kMaxQueueEntries = 1U << 16;
inline constexpr std::size_t kMaxGroupQueues = 1U << 16;
/// Exchanges of one such answer: a list takes one for each task that waits with one priority.
inline constexpr std::size_t kMaxQueueSteps = 4096;

// --- names ---

/// A symbol's or type's name; longer ones read as empty. The kernel's own limit is 512. Names may
/// overlap in a string table, so without it a hostile table costs its size for every name.
inline constexpr std::size_t kMaxNameBytes = 1024;

// --- types ---

/// BTF in one piece. A distribution kernel's has 4 to 8 MB; what programs load is limited to 16 MB.
inline constexpr std::size_t kMaxBtfBytes = 256U << 20;
/// Modifiers (typedef, const, …) in front of one type. The kernel accepts 32.
inline constexpr unsigned kMaxModifiers = 64;
/// Nesting of arrays, structures and anonymous members.
inline constexpr unsigned kMaxTypeDepth = 64;
/// Members looked at while one field path is searched: anonymous members can fan out.
inline constexpr std::size_t kMaxMemberSteps = 1U << 20;
/// Structures that share a name and are tried for one layout.
inline constexpr std::size_t kMaxLayoutCandidates = 64;

// --- DWARF ---

/// Debug sections of a kernel file, uncompressed. A distribution kernel's have 0.3 GB, one with
/// every sanitizer 1 GB.
inline constexpr std::uint64_t kMaxDebugBytes = 4ULL << 30;
/// Abbreviation tables, a shared one counted for each unit: so many bytes, and so many times the
/// section. In memory they are ten times as large.
inline constexpr std::uint64_t kMaxAbbreviationBytes = 32ULL << 20;
inline constexpr std::uint64_t kMaxAbbreviationReuse = 8;
/// Attributes of one entry. Compilers write up to 20.
inline constexpr std::size_t kMaxDieAttributes = 256;
/// Types within types: pointers, arrays, typedefs and structures by value. Real ones reach 30.
inline constexpr unsigned kMaxDwarfDepth = 200;
/// Bytes of DWARF looked at, for each byte there is, and a base. Reading everything once and what
/// is referred to again comes to 2; references into the middle of other entries could make it
/// quadratic.
inline constexpr std::uint64_t kDwarfWorkPerByte = 16;
inline constexpr std::uint64_t kDwarfWorkBase = 1U << 20;
/// Dimensions of one array.
inline constexpr std::size_t kMaxArrayDimensions = 32;

// --- values ---

/// Steps (members, elements, enumerators compared) of printing one value: a base, and so many for
/// each of its bytes. Unions repeat the same bytes and could do so exponentially; and there are as
/// many values as the guest's maps have entries, so that the base must be small.
inline constexpr std::uint64_t kValueStepsBase = 1U << 14;
inline constexpr std::uint64_t kValueStepsPerByte = 64;

}  // namespace guestscope
