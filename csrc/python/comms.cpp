// Workers, as Python hands them over.
#include "../thread_comm.h"
#include "border.h"
#include "faulty_comm.h"

#if defined(__unix__) || defined(__APPLE__)
#define QGBDT_HAS_SOCKETS
#include "../socket_comm.h"
#endif

namespace qgbdt {

void check_signals() {
  const py::gil_scoped_acquire acquire;
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

std::string name_of(const py::error_already_set& error) {
  const py::gil_scoped_acquire acquire;
  return error.type().attr("__name__").cast<std::string>();
}

void bind_comms(py::module_& m) {
  py::class_<Comm, SharedComm>(m, "Comm")
      .def_property_readonly("rank", &Comm::rank)
      .def_property_readonly("world_size", &Comm::world_size)
      .def(
          "exchange",
          [](Comm& comm, const std::vector<py::bytes>& messages) {
            check(int(messages.size()) == comm.world_size(), "a message for each worker");
            std::vector<Bytes> sent;
            for (const std::string_view text : messages)
              sent.emplace_back(text.begin(), text.end());
            std::vector<Bytes> received;
            {
              const py::gil_scoped_release release;
              received = comm.exchange(std::move(sent));
            }
            std::vector<py::bytes> out;
            for (const Bytes& bytes : received)
              out.emplace_back(reinterpret_cast<const char*>(bytes.data()), bytes.size());
            return out;
          },
          py::arg("messages"))
      .def("leave", &Comm::leave, py::arg("why"), py::call_guard<py::gil_scoped_release>());
#ifdef QGBDT_HAS_SOCKETS
  py::class_<SocketComm, Comm, std::shared_ptr<SocketComm>>(m, "SocketComm")
      .def(py::init([](int rank, const std::vector<int>& sockets, std::vector<std::string> names,
                       double heartbeat, int relay) {
             check(sockets.size() == names.size() && 0 <= rank && rank < int(names.size()),
                   "a socket and a name for each worker");
             check(heartbeat > 0, "heartbeat must be positive");
             return std::shared_ptr<SocketComm>(
                 new SocketComm(rank, sockets, std::move(names), heartbeat, relay,
                                [] { check_signals(); }),
                 SocketCommDeleter());
           }),
           py::arg("rank"), py::arg("sockets"), py::arg("names"), py::arg("heartbeat"),
           py::arg("relay") = -1)
      .def("report", [](SocketComm& comm) {
        const CommReport report = comm.report();
        py::dict out;
        out["exchanges"] = report.n_exchanges;
        out["bytes_sent"] = report.bytes_sent;
        out["bytes_received"] = report.bytes_received;
        out["wait_seconds"] = report.wait_seconds;
        return out;
      });
#endif
  m.def("thread_comms", [](int world_size) {
    check(world_size >= 1, "world_size must be at least 1");
    const auto hub = std::make_shared<ThreadHub>(world_size);
    std::vector<SharedComm> comms;
    for (int rank = 0; rank < world_size; ++rank)
      comms.push_back(std::make_shared<ThreadComm>(hub, rank));
    return comms;
  });

  py::class_<FaultyComm, Comm, std::shared_ptr<FaultyComm>>(
      m, "FaultyComm", "A worker that receives one changed byte, for tests; no public interface.")
      .def(py::init<SharedComm, int64_t, int, int64_t, uint8_t, bool>(), py::arg("sound"),
           py::arg("exchange"), py::arg("sender"), py::arg("byte"), py::arg("flip"),
           py::arg("on_its_way"))
      .def_property_readonly("n_exchanges", &FaultyComm::n_exchanges);
}

}  // namespace qgbdt
