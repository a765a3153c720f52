// Damaged and hostile bytes for what reads other workers' messages: FrameReader, CellReader and
// RowReader.
//
// Frames, packed histograms and rows, made from a seed, are changed (bits, bytes, lengths, order;
// half of the frames get checksums that fit again, so that what lies behind them is reached) and
// read as the core reads them. Built with AddressSanitizer and UndefinedBehaviorSanitizer, which
// stop at the first fault. Besides, what was not changed must be read as it was, and no length that
// a frame claims may take more memory than twice what came, and what a reader takes at a time.
//
//   fuzz_frames [inputs, a third of each kind] [seed]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

#include "frames.h"
#include "histogram_codec.h"
#include "support/crc32.h"

using namespace qgbdt;

namespace {

constexpr size_t kReaderTakes = size_t(1) << 20;

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next() {  // splitmix64 (Steele, Lea, Flood 2014)
    uint64_t z = state_ += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  size_t below(size_t n) { return size_t(next() % n); }

 private:
  uint64_t state_;
};

using Counts = std::map<std::string, int64_t>;

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "fault: %s\n", what);
  std::abort();
}

// One change; bytes stay within a few thousand.
void change(Bytes& bytes, Random& random) {
  if (bytes.empty()) bytes.push_back(uint8_t(random.next()));
  const size_t at = random.below(bytes.size());
  const size_t n = 1 + random.below(std::min<size_t>(bytes.size() - at, 16));
  switch (random.below(8)) {
    case 0: bytes[at] ^= uint8_t(1 << random.below(8)); break;
    case 1: bytes[at] = uint8_t(random.next()); break;
    case 2: std::fill_n(bytes.begin() + at, n, uint8_t(random.below(2) ? 0 : 255)); break;
    case 3: bytes.resize(at); break;
    case 4: bytes.erase(bytes.begin() + at, bytes.begin() + at + n); break;
    case 5: {
      const Bytes copied(bytes.begin() + at, bytes.begin() + at + n);
      bytes.insert(bytes.begin() + random.below(bytes.size()), copied.begin(), copied.end());
      break;
    }
    case 6:
      for (size_t i = 0; i < n; ++i) bytes[at + i] = uint8_t(random.next());
      break;
    default: bytes.insert(bytes.end(), n, uint8_t(random.next()));
  }
}

struct Stream {
  std::vector<Frame> frames;
  Bytes bytes;
};

Stream draw_stream(Random& random) {
  Stream stream;
  for (size_t left = 1 + random.below(3); left > 0; --left) {
    const auto kind = FrameKind(1 + random.below(3));
    Bytes payload(random.below(4) ? random.below(64) : random.below(2000));
    for (uint8_t& byte : payload) byte = uint8_t(random.next());
    const uint64_t number = random.below(1000);
    const Bytes head = frame_head(kind, number, payload.size());
    stream.bytes.insert(stream.bytes.end(), head.begin(), head.end());
    stream.bytes.insert(stream.bytes.end(), payload.begin(), payload.end());
    stream.frames.push_back({kind, number, std::move(payload)});
  }
  return stream;
}

// The first frame's head says something else, and its checksum fits.
void forge(Bytes& bytes, Random& random) {
  if (bytes.size() < kFrameHead) return;
  const uint64_t length = random.below(8) ? random.below(200) : random.next() >> random.below(64);
  if (random.below(2)) std::memcpy(&bytes[12], &length, sizeof length);
  if (random.below(8) == 0) bytes[random.below(4)] = uint8_t(random.below(6));
  const uint32_t checksum = crc32(std::span(bytes).first(20));
  std::memcpy(&bytes[20], &checksum, sizeof checksum);
}

// Reads as socket_comm.cpp does, in pieces as they may come.
std::vector<Frame> read_stream(const Bytes& bytes, Random& random, Counts& counts) {
  FrameReader reader;
  std::vector<Frame> frames;
  const size_t piece = 1 + random.below(random.below(2) ? 40 : 4000);
  size_t taken = 0;
  try {
    while (taken < bytes.size()) {
      const std::span<uint8_t> room = reader.room();
      require(!room.empty(), "a reader without room");
      require(room.size() <= 2 * bytes.size() + kReaderTakes, "a reader that takes too much");
      const size_t n = std::min({piece, room.size(), bytes.size() - taken});
      std::memcpy(room.data(), &bytes[taken], n);
      taken += n;
      if (reader.fill(n)) frames.push_back(reader.take());
    }
    ++counts["frames: read to the end"];
  } catch (const std::runtime_error& error) {
    ++counts[std::string("frames: ") + error.what()];
  }
  return frames;
}

void fuzz_frames(Random& random, Counts& counts) {
  Stream stream = draw_stream(random);
  const size_t changes = random.below(4);
  for (size_t i = 0; i < changes; ++i) change(stream.bytes, random);
  const bool is_forged = changes > 0 && random.below(2);
  if (is_forged) forge(stream.bytes, random);
  const std::vector<Frame> frames = read_stream(stream.bytes, random, counts);
  if (changes > 0) return;
  require(frames.size() == stream.frames.size(), "a frame is missing");
  for (size_t i = 0; i < frames.size(); ++i)
    require(frames[i].kind == stream.frames[i].kind &&
                frames[i].number == stream.frames[i].number &&
                frames[i].payload == stream.frames[i].payload,
            "a frame is another");
}

// Adds what a reader makes of the bytes to each feature's part of the sums; true if it refuses
// them.
template <class MakeReader>
bool refuses(const char* kind, const MakeReader& make_reader, int32_t n_places,
             std::vector<HistCell>& sums, Counts& counts) {
  const std::string of_kind = std::string(kind) + ": ";
  try {
    auto reader = make_reader();
    for (size_t i = 0; i < sums.size(); i += n_places) reader.add_to(&sums[i], n_places);
    ++counts[of_kind + (reader.is_done() ? "read to the end" : "bytes are left over")];
    return false;
  } catch (const std::invalid_argument& error) {
    ++counts[of_kind + error.what()];
    return true;
  }
}

void fuzz_cells(Random& random, Counts& counts) {
  const auto n_places = int32_t(8 << random.below(6));
  const size_t n_features = 1 + random.below(3);
  std::vector<HistCell> cells(n_places * n_features);
  const int bits = int(random.below(33));
  const size_t filled = random.below(9);
  for (HistCell& cell : cells)
    if (random.below(8) < filled)
      cell = make_cell(int32_t(random.next() << 32 >> 32) >> (32 - std::max(bits, 1)),
                       int32_t(uint32_t(random.next()) >> 1 >> (32 - std::max(bits, 1))));
  Bytes bytes;
  for (size_t i = 0; i < n_features; ++i) pack_cells(&cells[i * n_places], n_places, &bytes);

  const size_t changes = random.below(4);
  for (size_t i = 0; i < changes; ++i) change(bytes, random);
  if (changes > 0 && random.below(2)) {  // the head of the first
    bytes[0] = uint8_t(random.next());
    if (bytes.size() > 1) bytes[1] = uint8_t(random.below(40));
  }
  const bool adds = changes > 0 && random.below(2);  // as to a histogram that is not empty
  std::vector<HistCell> sums(cells.size(), adds ? HistCell(random.next()) : 0);
  // A buffer of its own, so that reading beyond it is seen.
  const Bytes exact(bytes.begin(), bytes.end());
  const bool refused = refuses("cells", [&] { return CellReader(exact); }, n_places, sums, counts);
  if (changes > 0) return;
  require(!refused, "a histogram is refused");
  require(sums == cells, "a histogram is another");
}

template <class Pair>
void fuzz_rows(Random& random, Counts& counts) {
  const auto n_places = int32_t(8 << random.below(6));
  const size_t n_features = 1 + random.below(3);
  std::vector<Pair> pairs(random.below(40));
  for (Pair& pair : pairs) pair = Pair(random.next());
  Bytes bytes;
  pack_pairs(pairs, &bytes);
  std::vector<HistCell> cells(n_places * n_features);
  for (size_t feature = 0; feature < n_features; ++feature) {
    for (Pair pair : pairs) {
      bytes.push_back(uint8_t(random.below(n_places)));
      cells[feature * n_places + bytes.back()] += lane_cell(pair_lane(pair));
    }
  }

  const size_t changes = random.below(4);
  for (size_t i = 0; i < changes; ++i) change(bytes, random);
  if (changes > 0 && random.below(2) && bytes.size() >= sizeof(int64_t)) {  // how many rows
    const uint64_t n = random.below(2) ? random.below(100) : random.next() >> random.below(64);
    std::memcpy(bytes.data(), &n, sizeof n);
  }
  const bool adds = changes > 0 && random.below(2);  // as to sums that are as large as can be
  const HistCell extreme = random.below(2) ? INT64_MAX : INT64_MIN;
  std::vector<HistCell> sums(cells.size(), adds ? extreme : 0);
  const Bytes exact(bytes.begin(), bytes.end());
  const auto make_reader = [&] { return RowReader(exact, sizeof(Pair) == sizeof(Pair16)); };
  const bool refused = refuses("rows", make_reader, n_places, sums, counts);
  if (changes > 0) return;
  require(!refused, "rows are refused");
  require(sums == cells, "rows are others");
}

}  // namespace

int main(int argc, char** argv) {
  const long long n = (argc > 1 ? std::atoll(argv[1]) : 10'000'000) / 3;
  Random random(argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 0);
  Counts counts;
  for (long long i = 0; i < n; ++i) {
    fuzz_frames(random, counts);
    fuzz_cells(random, counts);
    if (random.below(2)) fuzz_rows<Pair8>(random, counts);
    else fuzz_rows<Pair16>(random, counts);
  }
  std::printf("%lld streams of frames, %lld packed histograms and %lld nodes of rows, no fault\n",
              n, n, n);
  for (const auto& [what, count] : counts)
    std::printf("%12lld %s\n", (long long)count, what.c_str());
}
