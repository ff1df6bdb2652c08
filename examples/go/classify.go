// Classify an image file over gRPC: print its label, the probability and the version of the model.
//
//	classify localhost:8500 fashion_mnist boot.png
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"servable/wire"
)

// The messages of wire.proto are those of TensorFlow Serving; it has no services, so that calls name
// the method.
const predict = "/tensorflow.serving.PredictionService/Predict"

func classify(connection *grpc.ClientConn, model, file string) (*wire.PredictResponse, error) {
	image, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	request := &wire.PredictRequest{
		ModelSpec: &wire.ModelSpec{Name: model, SignatureName: "serving_bytes"},
		Inputs: map[string]*wire.TensorProto{
			"image_bytes": {
				Dtype:       wire.DataType_DT_STRING,
				TensorShape: &wire.TensorShapeProto{Dim: []*wire.TensorShapeProto_Dim{{Size: 1}}},
				StringVal:   [][]byte{image},
			},
		},
	}
	context, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	response := &wire.PredictResponse{}
	return response, connection.Invoke(context, predict, request, response)
}

func main() {
	log.SetFlags(0)
	if len(os.Args) != 4 {
		log.Fatal("usage: classify HOST:PORT MODEL FILE")
	}
	connection, err := grpc.Dial(os.Args[1], grpc.WithInsecure())
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	response, err := classify(connection, os.Args[2], os.Args[3])
	if err != nil {
		log.Fatalf("%s: %s", status.Code(err), status.Convert(err).Message())
	}
	class := response.Outputs["class_id"].Int64Val[0]
	fmt.Printf("%s %.3f %d\n",
		response.Outputs["label"].StringVal[0],
		response.Outputs["probabilities"].FloatVal[class],
		response.ModelSpec.GetVersion().Value)
}
